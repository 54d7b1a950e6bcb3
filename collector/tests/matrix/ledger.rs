//! What the shapes say they exchanged, what the collector says, and how the two differ.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use serde_json::Value;

/// One field of the matrix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) shape: String,
    pub(crate) server: &'static str,
    pub(crate) v6: bool,
}

/// Where a shape goes: its field of the matrix and the server's address.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) cell: Cell,
    pub(crate) address: SocketAddr,
}

/// An exchange as one of its ends knows it. What that end cannot know exactly is `None` and not compared.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) cell: Cell,
    pub(crate) client_port: Option<u16>,
    pub(crate) method: Option<String>,
    pub(crate) path: Option<String>,
    /// Compared even when absent: no status is a statement.
    pub(crate) status: Option<u16>,
    pub(crate) outcome: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) request_bytes: Option<u64>,
    pub(crate) response_bytes: Option<u64>,
    pub(crate) trace_id: Option<String>,
    pub(crate) at_least: Duration,
    /// From before the first byte was sent until after the last one was read: the server's side sees less.
    pub(crate) at_most: Option<Duration>,
    /// May also be missing: a connection that never says what it wants.
    pub(crate) optional: bool,
}

impl Expected {
    /// A whole exchange of HTTP/1.1 of which nothing more is known.
    pub(crate) fn new(cell: &Cell, method: &str, path: &str, status: Option<u16>) -> Self {
        Self {
            cell: cell.clone(),
            client_port: None,
            method: Some(method.to_owned()),
            path: Some(path.to_owned()),
            status,
            outcome: match status {
                None => "aborted",
                Some(500..) => "error",
                Some(_) => "ok",
            },
            protocol: "http/1.1",
            request_bytes: None,
            response_bytes: None,
            trace_id: None,
            at_least: Duration::ZERO,
            at_most: None,
            optional: false,
        }
    }

    /// A connection that never finishes a head.
    pub(crate) fn speechless(cell: &Cell, client_port: u16) -> Self {
        Self {
            client_port: Some(client_port),
            method: None,
            path: None,
            optional: true,
            ..Self::new(cell, "", "", None)
        }
    }

    /// How a captured exchange differs from this one.
    fn differences(&self, found: &Value) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |key: &str, expected: Value| {
            if found[key] != expected {
                differences.push(format!("{key} {} instead of {expected}", found[key]));
            }
        };
        compare("method", self.method.clone().into());
        compare("path", self.path.clone().into());
        compare("status_code", self.status.into());
        compare("outcome", self.outcome.into());
        compare("role", "server".into());
        if self.method.is_some() {
            compare("protocol", self.protocol.into());
        }
        if let Some(port) = self.client_port {
            compare("client_port", port.into());
        }
        if let Some(bytes) = self.request_bytes {
            compare("request_bytes", bytes.into());
        }
        if let Some(bytes) = self.response_bytes {
            compare("response_bytes", bytes.into());
        }
        if let Some(trace_id) = &self.trace_id {
            compare("trace_id", trace_id.as_str().into());
        }
        let took = Duration::from_nanos(found["duration_ns"].as_u64().unwrap());
        let first = Duration::from_nanos(found["ttfb_ns"].as_u64().unwrap_or(0));
        if took < self.at_least || self.at_most.is_some_and(|most| took > most) || took < first {
            let most = self.at_most.unwrap_or(Duration::MAX);
            differences.push(format!(
                "duration {took:?} (first byte {first:?}) is not between {:?} and {most:?}",
                self.at_least
            ));
        }
        differences
    }
}

/// The servers by port, to find the field of the matrix that a captured exchange belongs to.
pub(crate) type Ports = HashMap<u16, &'static str>;

#[derive(Default)]
struct Compared {
    expected: usize,
    found: usize,
    problems: Vec<String>,
}

/// The matrix after the fact.
pub(crate) struct Matrix(BTreeMap<Cell, Compared>);

impl Matrix {
    /// Holds the ledger against the collector's output.
    pub(crate) fn compare(mut expected: Vec<Expected>, output: &Path, ports: &Ports) -> Self {
        // Where two could be the same exchange, the one that says more is looked for first.
        expected.sort_by_key(|line| line.optional);
        let lines = fs::read_to_string(output).unwrap();
        let captured = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let places = Places::of(&expected);
        let mut of_cell: BTreeMap<Cell, Vec<Value>> = BTreeMap::new();
        for exchange in captured {
            let cell = places.cell_of(&exchange, ports);
            of_cell.entry(cell).or_default().push(exchange);
        }
        let mut expected_of: BTreeMap<Cell, Vec<Expected>> = BTreeMap::new();
        for line in expected {
            expected_of.entry(line.cell.clone()).or_default().push(line);
        }
        let cells: BTreeSet<Cell> = of_cell.keys().chain(expected_of.keys()).cloned().collect();
        let compared = cells.into_iter().map(|cell| {
            let expected = expected_of.remove(&cell).unwrap_or_default();
            let mut found = of_cell.remove(&cell).unwrap_or_default();
            // Requests that cannot be told apart are told apart by their order.
            found.sort_by(|one, other| one["timestamp"].as_str().cmp(&other["timestamp"].as_str()));
            (cell, Compared::of(&expected, &found))
        });
        Self(compared.collect())
    }

    pub(crate) fn is_equal(&self) -> bool {
        self.0.values().all(|compared| compared.problems.is_empty())
    }

    /// One row per shape, one column per server and address family, `found/expected` in the fields.
    pub(crate) fn table(&self) -> String {
        let shapes: BTreeSet<&str> = self.0.keys().map(|cell| cell.shape.as_str()).collect();
        let columns: BTreeSet<(&str, bool)> =
            self.0.keys().map(|cell| (cell.server, cell.v6)).collect();
        let mut table = format!("{:<28}", "");
        for (server, v6) in &columns {
            write!(
                table,
                "{:>15}",
                format!("{server}/{}", 4 + 2 * u8::from(*v6))
            )
            .unwrap();
        }
        for shape in shapes {
            write!(table, "\n{shape:<28}").unwrap();
            for (server, v6) in &columns {
                let field = self.0.iter().find(|(cell, _)| {
                    (cell.shape.as_str(), cell.server, cell.v6) == (shape, *server, *v6)
                });
                let text = field.map_or(String::new(), |(_, compared)| {
                    let mark = if compared.problems.is_empty() {
                        ""
                    } else {
                        "!"
                    };
                    format!("{mark}{}/{}", compared.found, compared.expected)
                });
                write!(table, "{text:>15}").unwrap();
            }
        }
        table
    }

    /// What differs, field by field.
    pub(crate) fn problems(&self) -> String {
        const SHOWN: usize = 6;
        let mut text = String::new();
        for (cell, compared) in &self.0 {
            if compared.problems.is_empty() {
                continue;
            }
            let family = 4 + 2 * u8::from(cell.v6);
            writeln!(text, "{} {}/{family}:", cell.shape, cell.server).unwrap();
            for problem in compared.problems.iter().take(SHOWN) {
                writeln!(text, "    {problem}").unwrap();
            }
            let more = compared.problems.len().saturating_sub(SHOWN);
            if more > 0 {
                writeln!(text, "    and {more} more").unwrap();
            }
        }
        text
    }
}

/// How a captured exchange finds its field of the matrix: by the beginning of its path, and without a path by whoever
/// used its client port last.
struct Places {
    shapes: BTreeSet<String>,
    by_client: HashMap<(&'static str, bool, u16), String>,
}

impl Places {
    fn of(expected: &[Expected]) -> Self {
        let by_client = expected.iter().filter_map(|line| {
            let client = (line.cell.server, line.cell.v6, line.client_port?);
            Some((client, line.cell.shape.clone()))
        });
        Self {
            shapes: expected
                .iter()
                .map(|line| line.cell.shape.clone())
                .collect(),
            by_client: by_client.collect(),
        }
    }

    fn cell_of(&self, exchange: &Value, ports: &Ports) -> Cell {
        let port = |key: &str| u16::try_from(exchange[key].as_u64().unwrap()).unwrap();
        let server = ports[&port("server_port")];
        let v6 = exchange["client_address"].as_str().unwrap().contains(':');
        let shape = match exchange["path"].as_str() {
            Some(path) => path
                .split('/')
                .nth(1)
                .and_then(|shape| self.shapes.get(shape)),
            None => self.by_client.get(&(server, v6, port("client_port"))),
        };
        Cell {
            shape: shape.map_or_else(|| "(none of these)".to_owned(), String::clone),
            server,
            v6,
        }
    }
}

impl Compared {
    /// Every expected exchange is looked for once; what is left over on either side is a problem.
    fn of(expected: &[Expected], found: &[Value]) -> Self {
        let mut waiting: HashMap<Option<&str>, Vec<usize>> = HashMap::new();
        for (index, line) in expected.iter().enumerate().rev() {
            waiting.entry(line.path.as_deref()).or_default().push(index);
        }
        let mut compared = Self {
            expected: expected.iter().filter(|line| !line.optional).count(),
            ..Self::default()
        };
        let mut matched = Vec::new();
        let mut unexpected = Vec::new();
        for exchange in found {
            let candidates = waiting.entry(exchange["path"].as_str()).or_default();
            let fits = |index: &usize| expected[*index].differences(exchange).is_empty();
            let Some(at) = candidates.iter().rposition(fits) else {
                compared.found += 1;
                unexpected.push(exchange);
                continue;
            };
            let index = candidates.remove(at);
            compared.found += usize::from(!expected[index].optional);
            matched.push((expected[index].client_port, index, exchange));
        }
        compared.check_order(matched);
        let missing = waiting
            .into_values()
            .flatten()
            .map(|index| &expected[index]);
        let missing: Vec<&Expected> = missing.filter(|line| !line.optional).collect();
        compared.explain(&missing, unexpected);
        compared
    }

    /// Whatever the order of the output: on one connection the timestamps come in the order of the requests.
    fn check_order(&mut self, mut matched: Vec<(Option<u16>, usize, &Value)>) {
        matched.sort_by_key(|(port, index, _)| (*port, *index));
        for pair in matched.windows(2) {
            let [(port, _, before), (next_port, _, after)] = pair else {
                continue;
            };
            let times = [before, after].map(|exchange| exchange["timestamp"].as_str().unwrap());
            if port.is_some() && port == next_port && times[0] > times[1] {
                self.problems.push(format!("begins too late: {before}"));
            }
        }
    }

    fn explain(&mut self, missing: &[&Expected], unexpected: Vec<&Value>) {
        let mut missing = missing.to_vec();
        for exchange in unexpected {
            let nearest = missing
                .iter()
                .enumerate()
                .filter(|(_, line)| line.path.as_deref() == exchange["path"].as_str())
                .min_by_key(|(_, line)| line.differences(exchange).len())
                .map(|(index, _)| index);
            if let Some(index) = nearest {
                let differences = missing.swap_remove(index).differences(exchange).join("; ");
                self.problems
                    .push(format!("differs: {differences}\n        in {exchange}"));
            } else {
                self.problems.push(format!("not expected: {exchange}"));
            }
        }
        for line in missing {
            self.problems.push(format!("missing: {line:?}"));
        }
    }
}
