//! Who calls whom: requests, failures and time per pair of services, each call counted once.
//!
//! Owns the totals behind `/metrics`. Refuses to name services: the caller does; and to count a call twice: it is told
//! of the serving end only.

/// Edges that get totals of their own; all further ones share `other -> other`.
pub const EDGES_MAX: usize = 256;
/// Bytes of a service's name that are kept.
const NAME_BYTES_MAX: usize = 128;
const OTHER: &str = "other";

/// How a call was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusClass {
    /// A status below 400.
    Success,
    /// 400 to 499: the caller's fault, so the server did not fail.
    ClientError,
    /// 500 and above.
    ServerError,
    /// No whole answer.
    Unanswered,
}

impl StatusClass {
    /// The class of a status code, absent when there was no answer.
    pub const fn of(status_code: Option<u16>) -> Self {
        match status_code {
            None => Self::Unanswered,
            Some(500..) => Self::ServerError,
            Some(400..) => Self::ClientError,
            Some(_) => Self::Success,
        }
    }

    const fn is_failure(self) -> bool {
        match self {
            Self::ServerError | Self::Unanswered => true,
            Self::Success | Self::ClientError => false,
        }
    }
}

/// Totals since the start; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    requests: u64,
    failed: u64,
    duration_ns: u64,
}

/// One line of the map. The three names together are unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge<'a> {
    /// Who calls.
    pub client: &'a str,
    /// Who is called.
    pub server: &'a str,
    /// As in the exchange: `http/1.1`, `h2`, `grpc`, ...
    pub protocol: &'a str,
    /// Calls.
    pub requests: u64,
    /// Those answered with 500 and above or not at all.
    pub failed: u64,
    /// Sum of their durations, ns.
    pub duration_ns: u64,
}

/// The map.
#[derive(Debug, Default)]
pub struct ServiceMap {
    /// In the order of the names, so that a lookup compares few and copies none.
    rows: Vec<Row>,
    beyond: Totals,
}

#[derive(Debug)]
struct Row {
    client: String,
    server: String,
    protocol: &'static str,
    totals: Totals,
}

impl ServiceMap {
    /// Adds one call.
    pub fn observe(
        &mut self,
        client: &str,
        server: &str,
        protocol: &'static str,
        status_class: StatusClass,
        duration_ns: u64,
    ) {
        let totals = self.totals(cut(client), cut(server), protocol);
        totals.requests += 1;
        totals.failed += u64::from(status_class.is_failure());
        totals.duration_ns = totals.duration_ns.saturating_add(duration_ns);
    }

    fn totals(&mut self, client: &str, server: &str, protocol: &'static str) -> &mut Totals {
        let found = self.rows.binary_search_by(|row| {
            (row.client.as_str(), row.server.as_str(), row.protocol)
                .cmp(&(client, server, protocol))
        });
        let at = match found {
            Ok(at) => at,
            Err(_) if self.rows.len() >= EDGES_MAX => return &mut self.beyond,
            Err(at) => {
                let row = Row {
                    client: client.to_owned(),
                    server: server.to_owned(),
                    protocol,
                    totals: Totals::default(),
                };
                self.rows.insert(at, row);
                at
            }
        };
        match self.rows.get_mut(at) {
            Some(row) => &mut row.totals,
            None => &mut self.beyond,
        }
    }

    /// All edges in the order of their names, `other` last and only when something fell to it.
    pub fn edges(&self) -> impl Iterator<Item = Edge<'_>> {
        let named = self
            .rows
            .iter()
            .map(|row| edge(&row.client, &row.server, row.protocol, &row.totals));
        let beyond = (self.beyond.requests > 0).then(|| edge(OTHER, OTHER, OTHER, &self.beyond));
        named.chain(beyond)
    }
}

const fn edge<'a>(
    client: &'a str,
    server: &'a str,
    protocol: &'a str,
    totals: &Totals,
) -> Edge<'a> {
    Edge {
        client,
        server,
        protocol,
        requests: totals.requests,
        failed: totals.failed,
        duration_ns: totals.duration_ns,
    }
}

fn cut(name: &str) -> &str {
    name.get(..name.floor_char_boundary(NAME_BYTES_MAX))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn calls_add_up_per_pair_and_protocol() {
        let mut map = ServiceMap::default();
        map.observe("cart", "stock", "http/1.1", StatusClass::of(Some(200)), 10);
        map.observe("cart", "stock", "http/1.1", StatusClass::of(Some(503)), 20);
        map.observe("cart", "stock", "http/1.1", StatusClass::of(Some(404)), 30);
        map.observe("cart", "stock", "grpc", StatusClass::of(None), 5);
        map.observe("api", "cart", "http/1.1", StatusClass::of(Some(302)), 1);
        let edges: Vec<_> = map
            .edges()
            .map(|e| {
                (
                    e.client,
                    e.server,
                    e.protocol,
                    e.requests,
                    e.failed,
                    e.duration_ns,
                )
            })
            .collect();
        assert_eq!(
            edges,
            [
                ("api", "cart", "http/1.1", 1, 0, 1),
                ("cart", "stock", "grpc", 1, 1, 5),
                ("cart", "stock", "http/1.1", 3, 1, 60),
            ]
        );
    }

    #[test]
    fn edges_beyond_the_bound_share_one() {
        let mut map = ServiceMap::default();
        for client in 0..1_000 {
            let name = format!("c{client}");
            map.observe(&name, "s", "h2", StatusClass::Success, 1);
        }
        map.observe("c0", "s", "h2", StatusClass::Success, 1);
        assert_eq!(map.edges().count(), EDGES_MAX + 1);
        assert_eq!(map.edges().last().unwrap().client, "other");
        assert_eq!(map.edges().map(|edge| edge.requests).sum::<u64>(), 1_001);
        let first = map.edges().find(|edge| edge.client == "c0").unwrap();
        assert_eq!(first.requests, 2, "known edges go on");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let mut map = ServiceMap::default();
        let name = "\u{e9}".repeat(100) + "x";
        map.observe(&name, "s", "h2", StatusClass::Success, 1);
        map.observe(&format!("x{name}"), "s", "h2", StatusClass::Success, 1);
        let lengths: Vec<_> = map.edges().map(|edge| edge.client.len()).collect();
        assert_eq!(lengths, [127, 128]);
    }
}
