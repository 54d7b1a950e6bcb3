//! Result windows in Redis, for dashboards and shops that ask it anyway.
//!
//! One sorted set per window: `funnel:YYYYMMDD` for a whole day of UTC, `funnel:YYYYMMDDTHHMM` for any other window, by
//! its beginning. Members are `<tenant>/<funnel>/<step name>`, scores are counts; a step whose name an earlier one has
//! gets its number (`Pay#4`). A set is gone 40 days after it was last written to.

use std::{collections::BTreeMap, time::Duration};

use funnel_engine::live::Snapshot;
use jiff::{Timestamp, tz::TimeZone};
use redis::{
    Client, Pipeline, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use crate::{Delivery, Sink, SinkError, names::step_names};

const EXPIRE_S: i64 = 40 * 86_400;
const DAY_NS: i64 = 86_400_000_000_000;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Writes windows to Redis.
pub struct RedisSink {
    client: Client,
    connection: Option<ConnectionManager>,
}

impl std::fmt::Debug for RedisSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client knows the password.
        f.debug_struct("RedisSink").finish_non_exhaustive()
    }
}

impl RedisSink {
    /// At an address such as `redis://127.0.0.1:6379/0`. Connects with the first delivery.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(url: &str) -> Result<Self, SinkError> {
        // The error may show the address, and with it the password.
        let client = Client::open(url).ok().ok_or_else(|| SinkError::Refused {
            message: "the address of Redis is to look like redis://host:6379/0".to_owned(),
        })?;
        Ok(Self {
            client,
            connection: None,
        })
    }

    async fn connection(&mut self) -> Result<ConnectionManager, RedisError> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT))
            // The publisher waits and tries again, and counts it.
            .set_number_of_retries(0);
        let connection = ConnectionManager::new_with_config(self.client.clone(), config).await?;
        self.connection = Some(connection.clone());
        Ok(connection)
    }
}

/// The set of a window.
fn key(snapshot: &Snapshot) -> String {
    let from = Timestamp::from_nanosecond(i128::from(snapshot.from_ns)).unwrap_or_default();
    let from = from.to_zoned(TimeZone::UTC);
    let is_day = snapshot.to_ns.saturating_sub(snapshot.from_ns) == DAY_NS;
    let day = from.strftime("%Y%m%d");
    if is_day {
        format!("funnel:{day}")
    } else {
        format!("funnel:{day}T{}", from.strftime("%H%M"))
    }
}

/// All of a delivery, as one transaction: a reader sees all of it or nothing.
fn transaction(snapshots: &[std::sync::Arc<Snapshot>]) -> Pipeline {
    let mut sets: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    for snapshot in snapshots {
        let members = sets.entry(key(snapshot)).or_default();
        for (name, count) in step_names(snapshot).into_iter().zip(snapshot.counts()) {
            members.push((
                count,
                format!("{}/{}/{name}", snapshot.tenant, snapshot.funnel),
            ));
        }
    }
    let mut transaction = redis::pipe();
    transaction.atomic();
    for (key, members) in &sets {
        transaction.zadd_multiple(key, members).ignore();
        transaction.expire(key, EXPIRE_S).ignore();
    }
    transaction
}

impl Sink for RedisSink {
    async fn publish(&mut self, delivery: &Delivery) -> Result<(), SinkError> {
        let away = |error: RedisError| SinkError::away(format!("Redis: {error}"));
        let mut connection = self.connection().await.map_err(away)?;
        let transaction = transaction(&delivery.snapshots);
        transaction.exec_async(&mut connection).await.map_err(away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::samples::{DAY_START, snapshot};

    #[test]
    fn days_have_the_short_name() {
        let mut window = snapshot("t1", 7, 1, &[1, 1]);
        assert_eq!(key(&window), "funnel:20260101T0700");
        (window.from_ns, window.to_ns) = (DAY_START, DAY_START + DAY_NS);
        assert_eq!(key(&window), "funnel:20260101");
    }

    #[test]
    fn an_address_that_is_none_is_refused_without_showing_it() {
        let refused = RedisSink::new("http://:secret@host")
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("redis://") && !refused.contains("secret"),
            "{refused}"
        );
    }
}
