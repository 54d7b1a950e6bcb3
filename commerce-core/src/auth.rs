//! Tokens: HS256, fixed; audience, expiry and the tenant claim are always checked.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, StatusCode};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

const AUDIENCE: &str = "shop";
const LIFETIME_S: u64 = 3_600;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// The tenant the user belongs to.
    pub tenant: String,
    /// For whom the token is.
    pub aud: String,
    /// Until when, seconds since 1970 UTC.
    pub exp: u64,
}

/// The secret that signs tokens.
#[derive(Clone)]
pub struct Tokens {
    secret: Vec<u8>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(secret hidden)")
    }
}

impl Tokens {
    /// From the secret's bytes.
    pub fn new(secret: &[u8]) -> Self {
        Self {
            secret: secret.to_vec(),
        }
    }

    /// A token for a user of a tenant.
    ///
    /// # Errors
    /// When signing fails.
    pub fn issue(&self, tenant: &str, user: &str) -> Result<String, Problem> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let claims = Claims {
            sub: user.to_owned(),
            tenant: tenant.to_owned(),
            aud: AUDIENCE.to_owned(),
            exp: now + LIFETIME_S,
        };
        encode(
            &Header::new(Algorithm::HS256),
            &claims,
            &EncodingKey::from_secret(&self.secret),
        )
        .map_err(|error| Problem::internal(&error))
    }

    /// Checks the tenant and token headers against each other.
    ///
    /// # Errors
    /// 401 when either is missing or wrong.
    pub fn check(&self, headers: &HeaderMap) -> Result<Claims, Problem> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let refused = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, "unauthorised", detail);
        let tenant = header("x-tenant-id").ok_or_else(|| refused("X-Tenant-ID is missing"))?;
        let token = header("x-auth-token").ok_or_else(|| refused("X-Auth-Token is missing"))?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        let claims = decode::<Claims>(token, &DecodingKey::from_secret(&self.secret), &validation)
            .ok()
            .ok_or_else(|| refused("the token is not valid"))?
            .claims;
        if claims.tenant != tenant {
            return Err(refused("the token belongs to another tenant"));
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(tenant: &str, token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-tenant-id", tenant.parse().unwrap());
        headers.insert("x-auth-token", token.parse().unwrap());
        headers
    }

    #[test]
    fn a_token_opens_its_own_tenant_only() {
        let tokens = Tokens::new(b"secret");
        let token = tokens.issue("t1", "u1").unwrap();
        assert_eq!(tokens.check(&headers("t1", &token)).unwrap().sub, "u1");
        assert!(tokens.check(&headers("t2", &token)).is_err());
        assert!(Tokens::new(b"other").check(&headers("t1", &token)).is_err());
        assert!(tokens.check(&HeaderMap::new()).is_err());
    }
}
