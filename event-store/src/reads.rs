//! Reading within a scope. Every read takes one; there is no unscoped reader.

use crate::{
    rows::{EventRow, LastExchangeRow, SpanRow},
    store::{Scope, Store, StoreError},
};

const EVENTS: &str = "SELECT ?fields FROM events WHERE (? OR tenant_id = ?) \
     AND timestamp >= fromUnixTimestamp64Nano(?) AND timestamp < fromUnixTimestamp64Nano(?)";

/// Columns are qualified: in WHERE, an alias of the same name would win.
const EXCHANGES: &str = "SELECT ifNull(e.tenant_id, '') AS tenant_id, assumeNotNull(e.user_id) AS user_id, e.timestamp AS timestamp, \
     ifNull(e.event, 'http') AS event, e.session_id AS session_id, e.trace_id AS trace_id, \
     e.status_code AS status_code, e.duration_ns AS duration_ns, \
     mapConcat(e.attributes, mapFilter((k, v) -> v != '', \
        map('route', ifNull(e.route, ''), 'method', ifNull(e.method, '')))) AS properties \
     FROM http_exchanges AS e WHERE (? OR e.tenant_id = ?) \
     AND e.timestamp >= fromUnixTimestamp64Nano(?) AND e.timestamp < fromUnixTimestamp64Nano(?) \
     AND e.role = 'server' AND e.user_id IS NOT NULL";

/// Whose last exchanges are read.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// Of these users: tenant, user.
    Users(&'a [(&'a str, &'a str)]),
    /// Of these sessions: tenant, user (empty: nobody known), session.
    Sessions(&'a [(&'a str, &'a str, &'a str)]),
}

impl Store {
    /// Events of a scope in `[from, to)`, ordered by user and time.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn events(
        &self,
        scope: &Scope,
        from_ns: i64,
        to_ns: i64,
    ) -> Result<Vec<EventRow>, StoreError> {
        let (all, tenant) = scope.binds();
        self.database()
            .query(
                "SELECT ?fields FROM events WHERE (? OR tenant_id = ?) \
                 AND timestamp >= fromUnixTimestamp64Nano(?) AND timestamp < fromUnixTimestamp64Nano(?) \
                 ORDER BY tenant_id, user_id, timestamp",
            )
            .bind(all)
            .bind(tenant)
            .bind(from_ns)
            .bind(to_ns)
            .fetch_all()
            .await
            .map_err(self.error("reading events"))
    }

    /// Hands over the events of a scope in `[from, to)`, in no order; nothing but the current one is in memory. With
    /// `every_exchange`, all exchanges of known users are events: named `http` where no rule names them, with route,
    /// method and status among the properties.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn each_event(
        &self,
        scope: &Scope,
        (from_ns, to_ns): (i64, i64),
        every_exchange: bool,
        each: &mut (dyn FnMut(EventRow) + Send),
    ) -> Result<(), StoreError> {
        let (all, tenant) = scope.binds();
        let error = self.error("reading events");
        let statement = if every_exchange { EXCHANGES } else { EVENTS };
        // The store's times begin with 1970.
        let query = self.database().query(statement).bind(all).bind(tenant);
        let query = query.bind(from_ns.max(0)).bind(to_ns.max(0));
        let mut rows = match query.fetch::<EventRow>() {
            Ok(rows) => rows,
            Err(source) => return Err(error(source)),
        };
        loop {
            match rows.next().await {
                Ok(Some(row)) => each(row),
                Ok(None) => return Ok(()),
                Err(source) => return Err(error(source)),
            }
        }
    }

    /// The last exchange that each of these had with the shop, in no order.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn last_exchanges(
        &self,
        scope: &Scope,
        whose: Whose<'_>,
    ) -> Result<Vec<LastExchangeRow>, StoreError> {
        let (all, tenant) = scope.binds();
        let (key, group) = match whose {
            Whose::Users(_) => ("e.user_id", "tenant, user"),
            Whose::Sessions(_) => (
                "ifNull(e.user_id, ''), e.session_id",
                "tenant, user, e.session_id",
            ),
        };
        // Aliases differ from the columns on purpose: in WHERE, an alias of the same name would win.
        let query = self.database().query(&format!(
            "SELECT ifNull(e.tenant_id, '') AS tenant, ifNull(e.user_id, '') AS user, \
                max(e.timestamp) AS at, argMax(tuple(e.method), e.timestamp).1 AS last_method, \
                argMax(tuple(e.route), e.timestamp).1 AS last_route, \
                argMax(tuple(e.status_code), e.timestamp).1 AS last_status, \
                argMax(e.duration_ns, e.timestamp) AS last_duration_ns, \
                argMax(tuple(e.trace_id), e.timestamp).1 AS last_trace_id, \
                argMax(tuple(e.session_id), e.timestamp).1 AS last_session_id \
             FROM http_exchanges AS e \
             WHERE (? OR e.tenant_id = ?) AND e.role = 'server' AND (ifNull(e.tenant_id, ''), {key}) IN ? \
             GROUP BY {group}"
        ));
        let query = query.bind(all).bind(tenant);
        let query = match whose {
            Whose::Users(users) => query.bind(users),
            Whose::Sessions(sessions) => query.bind(sessions),
        };
        query
            .fetch_all()
            .await
            .map_err(self.error("reading last exchanges"))
    }

    /// Spans of one trace, if it is the scope's (an operator sees all); at most `limit`.
    ///
    /// A trace belongs to the tenant of its earliest exchange that names one. Tenant and trace id come from
    /// headers that anyone can send, so whoever joins a trace later must not get to see it.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn trace(
        &self,
        scope: &Scope,
        trace_id: &str,
        limit: u64,
    ) -> Result<Vec<SpanRow>, StoreError> {
        let (all, tenant) = scope.binds();
        self.database()
            .query(
                "SELECT ?fields FROM otel_traces WHERE TraceId = ? AND (? OR TraceId IN \
                 (SELECT e.trace_id FROM http_exchanges AS e WHERE e.trace_id = ? AND e.tenant_id IS NOT NULL \
                  GROUP BY e.trace_id HAVING argMin(assumeNotNull(e.tenant_id), e.timestamp) = ?)) \
                 ORDER BY Timestamp LIMIT ?",
            )
            .bind(trace_id)
            .bind(all)
            .bind(trace_id)
            .bind(tenant)
            .bind(limit)
            .fetch_all()
            .await
            .map_err(self.error("reading a trace"))
    }
}
