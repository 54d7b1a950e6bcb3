//! The store from the outside: where it is, its schema, and writing to it. Reading is in `reads.rs`.

use std::{fmt, sync::Arc};

use clickhouse::{Client, Compression, RowOwned, RowWrite};
use tokio::sync::OnceCell;

use crate::rows::{ExchangeRow, HealthRow, SpanRow};

/// The one database.
pub const DATABASE: &str = "weir";

/// Migrations in order; each statement may run twice.
const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_first", include_str!("../migrations/0001_first.sql")),
    (
        "0002_connection_health",
        include_str!("../migrations/0002_connection_health.sql"),
    ),
    ("0003_tail", include_str!("../migrations/0003_tail.sql")),
    ("0004_live", include_str!("../migrations/0004_live.sql")),
];

/// The store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the store at {url}: {message}")]
pub struct StoreError {
    url: String,
    message: String,
    #[source]
    source: clickhouse::error::Error,
}

/// Whose data a read may see. Every read takes one; there is no unscoped reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One tenant.
    Tenant(TenantId),
    /// All of them: the operator of the mall.
    Operator,
}

/// Identifies a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(String);

impl TenantId {
    /// A tenant id as it stands in the events; never empty, because empty means "no tenant".
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scope {
    /// The condition's parameters: whether all tenants are meant, and which one.
    pub(crate) fn binds(&self) -> (bool, &str) {
        let tenant = self.tenant();
        (tenant.is_none(), tenant.map_or("", TenantId::as_str))
    }

    /// The one tenant; `None` when all are meant.
    pub const fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Tenant(tenant) => Some(tenant),
            Self::Operator => None,
        }
    }
}

/// A ClickHouse, embedded or a server.
#[derive(Clone)]
pub struct Store {
    client: Client,
    url: String,
    migrated: Arc<OnceCell<()>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The store at an address such as `http://127.0.0.1:8123`. Nothing is sent yet.
    pub fn at(url: &str) -> Self {
        let client = Client::default()
            .with_url(url)
            .with_compression(Compression::Lz4);
        Self {
            client,
            url: url.to_owned(),
            migrated: Arc::default(),
        }
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// With credentials.
    #[must_use]
    pub fn with_user(mut self, user: &str, password: &str) -> Self {
        self.client = self.client.with_user(user).with_password(password);
        self
    }

    /// Brings the schema up to date; safe to repeat and to run from several processes.
    ///
    /// # Errors
    /// When the store is away or refuses a statement.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let create = format!("CREATE DATABASE IF NOT EXISTS {DATABASE}");
        self.client
            .query(&create)
            .execute()
            .await
            .map_err(self.error("creating the database"))?;
        for (name, text) in MIGRATIONS {
            for statement in statements(text) {
                self.database()
                    .query(statement)
                    .execute()
                    .await
                    .map_err(self.error(name))?;
            }
        }
        Ok(())
    }

    /// As [`Self::migrate`], but only until it has succeeded once for this store and its clones: for writers that
    /// start while the store is away and call this before every insert.
    ///
    /// # Errors
    /// As there; the next call tries again.
    pub async fn migrate_once(&self) -> Result<(), StoreError> {
        self.migrated.get_or_try_init(|| self.migrate()).await?;
        Ok(())
    }

    /// Inserts exchanges. The same token inserts once, however often it is repeated.
    ///
    /// # Errors
    /// When the store is away or refuses; the caller may repeat with the same token.
    pub async fn insert_exchanges(
        &self,
        rows: &[ExchangeRow],
        token: &str,
    ) -> Result<(), StoreError> {
        self.insert("http_exchanges", "inserting exchanges", rows, token)
            .await
    }

    /// Inserts spans, as [`Self::insert_exchanges`] does exchanges.
    ///
    /// # Errors
    /// As there.
    pub async fn insert_spans(&self, rows: &[SpanRow], token: &str) -> Result<(), StoreError> {
        self.insert("otel_traces", "inserting spans", rows, token)
            .await
    }

    /// Inserts minutes of connection health, as [`Self::insert_exchanges`] does exchanges.
    ///
    /// # Errors
    /// As there.
    pub async fn insert_health(&self, rows: &[HealthRow], token: &str) -> Result<(), StoreError> {
        self.insert(
            "connection_health",
            "inserting connection health",
            rows,
            token,
        )
        .await
    }

    async fn insert<R: RowOwned + RowWrite>(
        &self,
        table: &str,
        doing: &str,
        rows: &[R],
        token: &str,
    ) -> Result<(), StoreError> {
        let writing = async {
            let mut insert = self.tokened(token).insert::<R>(table).await?;
            for row in rows {
                insert.write(row).await?;
            }
            insert.end().await
        };
        writing.await.map_err(self.error(doing))
    }

    /// The client, with the database chosen, for the funnel engine's own statements. Each of them takes a
    /// [`Scope`] beside it and binds [`Scope::tenant`].
    pub fn database(&self) -> Client {
        self.client.clone().with_database(DATABASE)
    }

    fn tokened(&self, token: &str) -> Client {
        self.database()
            .with_setting("insert_deduplication_token", token)
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
    }

    pub(crate) fn error(
        &self,
        doing: &str,
    ) -> impl FnOnce(clickhouse::error::Error) -> StoreError + use<> {
        let (url, doing) = (self.url.clone(), doing.to_owned());
        move |source| StoreError {
            message: format!("{doing}: {source}"),
            url,
            source,
        }
    }
}

/// The statements of a migration; a semicolon at the end of a line ends one.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split(";\n")
        .map(str::trim)
        .filter(|statement| !statement.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_a_name() {
        assert_eq!(TenantId::new(""), None);
        assert_eq!(TenantId::new("t1").unwrap().to_string(), "t1");
    }

    #[test]
    fn migrations_split_into_statements() {
        let counts: Vec<usize> = MIGRATIONS
            .iter()
            .map(|(_, text)| statements(text).count())
            .collect();
        assert_eq!(counts, [6, 1, 1, 2]);
    }
}
