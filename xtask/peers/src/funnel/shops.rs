//! Shops full of made-up events: sessions of an hour within thirty days; times are whole milliseconds.

use anyhow::Context as _;
use event_store::{Scope, Store, TenantId};

/// Events per user, unless a shop says otherwise.
const PER_USER: u64 = 10;

/// A shop to be filled.
#[derive(Clone, Debug)]
pub(super) struct Shop {
    pub(super) tenant: String,
    pub(super) events: u64,
    pub(super) users: u64,
    /// How many event names: e0, e1, ...
    names: u64,
    /// The properties of an event, as an expression of the store over `user` and `number`.
    properties: &'static str,
}

impl Shop {
    /// Three names.
    pub(super) fn few(events: u64) -> Self {
        Self {
            tenant: "few".to_owned(),
            events,
            users: events / PER_USER,
            names: 3,
            properties: "map()",
        }
    }

    /// Forty names, and a property of five values, the same for all events of a user.
    pub(super) fn many(events: u64) -> Self {
        Self {
            tenant: "many".to_owned(),
            names: 40,
            properties: "map('device', concat('d', toString(cityHash64(user, 5) % 5)))",
            ..Self::few(events)
        }
    }

    /// Forty names.
    pub(super) fn sized(tenant: &str, events: u64, users: u64) -> Self {
        Self {
            tenant: tenant.to_owned(),
            users,
            properties: "map()",
            ..Self::many(events)
        }
    }

    /// Four properties of ten to ten thousand values, another one with every event.
    pub(super) fn varied(tenant: &str, events: u64) -> Self {
        let properties = "map('v10', toString(cityHash64(number, 3) % 10), 'v100', toString(cityHash64(number, 3) % 100), \
            'v1000', toString(cityHash64(number, 3) % 1000), 'v10000', toString(cityHash64(number, 3) % 10000))";
        Self {
            properties,
            ..Self::sized(tenant, events, events / PER_USER)
        }
    }

    pub(super) async fn fill(&self, store: &Store) -> anyhow::Result<()> {
        let statement = format!(
            "INSERT INTO events (tenant_id, user_id, timestamp, event, duration_ns, properties) \
            SELECT ?, concat('u', toString(user)), \
                fromUnixTimestamp64Milli(toInt64(1767225600000 + cityHash64(user, number % 3) % 2592000000 + cityHash64(number, 1) % 3600000)), \
                concat('e', toString(cityHash64(number, 2) % ?)), 1000000, {} \
            FROM (SELECT number, cityHash64(number) % ? AS user FROM numbers(?))",
            self.properties
        );
        let fill = store.database().query(&statement).bind(&self.tenant);
        let fill = fill.bind(self.names).bind(self.users).bind(self.events);
        Ok(fill.execute().await?)
    }

    pub(super) fn scope(&self) -> anyhow::Result<Scope> {
        Ok(Scope::Tenant(
            TenantId::new(&self.tenant).context("a shop has a name")?,
        ))
    }
}
