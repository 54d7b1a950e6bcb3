//! Planted secrets: traffic that carries one in every place there is, and every byte that the collector gives out
//! searched for every one of them, as written and in other writings. The recording, which is raw by design, is the proof
//! that each was on the wire and that the search can find it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

#[path = "privacy/planted.rs"]
mod planted;
#[path = "privacy/search.rs"]
mod search;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use weir_testing::{Ended, free_port, wait_until};

use planted::{ANNA, BERTA, PASSWORD, Traffic, VISIT, plant, speak};
use search::{Secret, assert_clean, found};

/// Where a test puts its files, and the service that it watches.
struct Stage {
    folder: tempfile::TempDir,
    listener: TcpListener,
    metrics: String,
}

impl Stage {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stage = Self {
            folder: tempfile::tempdir().unwrap(),
            listener,
            metrics: format!("127.0.0.1:{}", free_port()),
        };
        stage.configure("collector.toml", "");
        stage.configure("open.toml", "[identity]\npseudonymise = false\n");
        stage
    }

    fn configure(&self, name: &str, more: &str) {
        let port = self.listener.local_addr().unwrap().port();
        let config = format!(
            "[[services]]\nport = {port}\nname = \"shop\"\n\
             [[events]]\nmethod = \"POST\"\nroute = \"/pay\"\nevent = \"pay\"\n\
             [attributes]\nheaders = [\"x-note\"]\ncookies = [\"theme\"]\nquery = [\"q\", \"mail\"]\n{more}"
        );
        fs::write(self.folder.path().join(name), config).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_default()
    }

    /// A collector that says as much as it can.
    fn collector(&self, run: &str, more: &[&str]) -> Ended {
        let log = self.path(&format!("{run}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_collector"))
            .env("WEIR_STORE_PASSWORD", PASSWORD)
            .env("WEIR_LOG", "debug")
            .args(["run", "--log-format", "json", "--metrics", &self.metrics])
            .args(["--config", &self.path("collector.toml")])
            .args(["--pseudonym-key", &self.path("pseudonym.key")])
            .args(["--summary", &self.path(&format!("{run}.json"))])
            .args(more)
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut collector = Ended(child);
        wait_until("the collector watching (it needs root and BPF)", || {
            let said = fs::read_to_string(&log).unwrap();
            let runs = matches!(collector.0.try_wait(), Ok(None));
            assert!(
                runs,
                "the collector cannot run here; this test needs root and BPF:\n{said}"
            );
            said.contains("watching") && TcpStream::connect(&self.metrics).is_ok()
        });
        collector
    }

    /// Speaks, and gives the metrics once they show that it was heard.
    fn speak(&self, traffic: &Traffic) -> Vec<u8> {
        speak(&self.listener, &traffic.talks);
        let mut page = Vec::new();
        wait_until("most exchanges in the metrics", || {
            page = curl(&[&format!("http://{}/metrics", self.metrics)]);
            let page = String::from_utf8_lossy(&page);
            let count = page
                .lines()
                .find_map(|line| line.strip_prefix("weir_collector_exchanges_total "));
            count.is_some_and(|count| count.parse::<usize>().unwrap() * 2 > traffic.talks.len())
        });
        page
    }

    /// Runs the recording through the pipeline again, without any kernel.
    fn replay(&self, config: &str) -> Vec<u8> {
        let output = Command::new(env!("CARGO_BIN_EXE_collector"))
            .env("WEIR_LOG", "debug")
            .args(["replay", &self.path("recording"), "--log-format", "json"])
            .args(["--config", &self.path(config)])
            .args(["--pseudonym-key", &self.path("pseudonym.key")])
            .output()
            .unwrap();
        let said = [output.stderr, output.stdout].concat();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&said)
        );
        said
    }

    /// The pseudonym as `docs/privacy.md` defines it, computed without any of our code.
    fn expected(&self, kind: &str, tenant: &str, id: &str) -> String {
        let program = "import hmac,sys\nkey=bytes.fromhex(open(sys.argv[1]).read())\n\
                       print(hmac.new(key,sys.argv[2].encode(),'sha256').hexdigest()[:32],end='')";
        let text = format!("weir/1/{kind}/{}/{tenant}/{id}", tenant.len());
        let output = Command::new("python3")
            .args(["-c", program, &self.path("pseudonym.key"), &text])
            .output()
            .expect("python3 is needed");
        let digits = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            digits.len(),
            32,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        format!("{}_{digits}", &kind[..1])
    }
}

fn curl(args: &[&str]) -> Vec<u8> {
    let output = Command::new("curl")
        .args(["-s", "--fail"])
        .args(args)
        .output();
    output.expect("curl is needed").stdout
}

fn exchanges(ndjson: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(ndjson.to_vec()).unwrap();
    let values = text.lines().map(|line| serde_json::from_str(line).unwrap());
    values
        .filter(|value: &Value| value["duration_ns"].is_u64())
        .collect()
}

/// Of every exchange with this path.
fn of_path<'a>(exchanges: &'a [Value], path: &str) -> Vec<&'a Value> {
    exchanges
        .iter()
        .filter(|exchange| exchange["path"] == path)
        .collect()
}

/// What was not to be lost over all the hiding.
fn assert_told(stage: &Stage, exchanges: &[Value]) {
    let pays = of_path(exchanges, "/pay");
    let who: Vec<_> = pays
        .iter()
        .map(|pay| (pay["tenant_id"].as_str().unwrap(), pay["user_id"].clone()))
        .collect();
    let expected = [
        ("lamps", ANNA),
        ("lamps", ANNA),
        ("boots", ANNA),
        ("lamps", BERTA),
    ]
    .map(|(tenant, id)| (tenant, json!(stage.expected("user", tenant, id))));
    assert_eq!(who, expected);
    assert_ne!(expected[0], expected[2], "another shop, another pseudonym");
    for pay in &pays {
        let tenant = pay["tenant_id"].as_str().unwrap();
        assert_eq!(
            pay["session_id"],
            json!(stage.expected("session", tenant, VISIT))
        );
        assert_eq!(pay["event"], "pay");
        let kept = [
            ("note", "paid with {card}, thanks"),
            ("cookie_theme", "dark-{card}"),
            ("query_q", "red lamp"),
            ("query_mail", "{email}"),
        ];
        for (name, value) in kept {
            assert_eq!(pay["attributes"][name], value, "{name} of {pay}");
        }
    }
    let login = of_path(exchanges, "/login");
    assert_eq!(login[0]["user_id"], expected[0].1, "told by the response");
    let cut = format!("/{}{{card}}", "long/".repeat(408));
    let paths = [
        "/cards/{card}/edit",
        "/grouped/{card}",
        "/spaced/{card}/x",
        "/users/{email}/orders",
        "/encoded/{email}/orders",
        "/auth/{token}",
        "/keys/{secret}",
        "/bearer/{token}",
        &cut,
        "/absolute",
        "/fragment",
        "/host",
        "/method",
        "/tenant",
        "/chunked",
        "/aborted",
        "/socket",
        "/broken-answer",
    ];
    for path in paths {
        assert_eq!(of_path(exchanges, path).len(), 1, "exchanges with {path}");
    }
    assert_eq!(
        of_path(exchanges, "/host")[0]["host"],
        "{secret}.example:8080"
    );
    assert_eq!(of_path(exchanges, "/tenant")[0]["tenant_id"], "{email}");
    assert_eq!(
        of_path(exchanges, "/users/{email}/orders")[0]["route"],
        "/users/{email}/orders"
    );
}

#[test]
fn nothing_planted_comes_out_of_a_collector_that_writes_lines() {
    let (stage, traffic) = (Stage::new(), plant());
    let output = format!("ndjson:{}", stage.path("exchanges.ndjson"));
    let recording = stage.path("recording");
    let mut collector = stage.collector("run", &["--output", &output, "--record", &recording]);
    let metrics = stage.speak(&traffic);
    assert!(collector.terminate());
    let mut on_wire = found(&traffic.secrets, &stage.read("recording"));
    on_wire.insert("password of the store", "by the environment");
    let never_sent: Vec<&str> = traffic
        .secrets
        .iter()
        .map(|secret| secret.place.as_str())
        .collect();
    let never_sent: Vec<_> = never_sent
        .into_iter()
        .filter(|place| !on_wire.contains_key(place))
        .collect();
    assert!(
        never_sent.is_empty(),
        "not on the wire, or not to be found: {never_sent:?}"
    );
    let lines = stage.read("exchanges.ndjson");
    let (again, open) = (stage.replay("collector.toml"), stage.replay("open.toml"));
    let outputs = [
        ("ndjson", lines.clone()),
        ("metrics", metrics),
        ("log", stage.read("run.log")),
        ("summary", stage.read("run.json")),
        ("replay", again.clone()),
    ];
    assert_clean(&traffic.secrets, &outputs);
    assert_told(&stage, &exchanges(&lines));
    assert_told(&stage, &exchanges(&again));
    // Switched off, user ids come out, and still nothing else does.
    let (users, others): (Vec<Secret>, Vec<Secret>) = traffic
        .secrets
        .into_iter()
        .partition(|secret| secret.text == ANNA || secret.text == BERTA);
    assert_eq!(
        found(&users, &open).len(),
        users.len(),
        "user ids as they are"
    );
    assert_clean(&others, &[("replay without pseudonyms", open)]);
}

/// The store's server, from the same build.
fn start_store(stage: &Stage, port: u16) -> Ended {
    let test = std::env::current_exe().unwrap();
    let binaries = test.parent().unwrap().parent().unwrap();
    let child = Command::new(binaries.join("event-store"))
        .env("WEIR_STORE_PASSWORD", PASSWORD)
        .args([
            "serve",
            "--path",
            &stage.path("data"),
            "--listen",
            &format!("127.0.0.1:{port}"),
        ])
        .stderr(Stdio::null())
        .spawn()
        .expect("event-store is needed: cargo build --workspace");
    let store = Ended(child);
    wait_until("the store listening", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    store
}

fn ask_store(port: u16, query: &str) -> Vec<u8> {
    let login = format!("default:{PASSWORD}");
    let query = format!("query={query}");
    let url = format!("http://127.0.0.1:{port}/");
    curl(&["-u", &login, "--get", "--data-urlencode", &query, &url])
}

fn all_files(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes.extend(all_files(&path));
        } else {
            bytes.extend(path.to_string_lossy().as_bytes());
            bytes.extend(fs::read(&path).unwrap());
        }
    }
    bytes
}

#[test]
fn nothing_planted_waits_on_disk_or_reaches_the_store() {
    let (stage, traffic) = (Stage::new(), plant());
    let store_port = free_port();
    let (url, spool) = (
        format!("http://127.0.0.1:{store_port}"),
        stage.path("spool"),
    );
    let output = ["--clickhouse", url.as_str(), "--spool", spool.as_str()];
    let mut collector = stage.collector("away", &output);
    let metrics = stage.speak(&traffic);
    // Ended while the store is away, the collector leaves everything in the spool.
    assert!(collector.terminate());
    let anna = stage.expected("user", "lamps", ANNA);
    let spooled = all_files(Path::new(&spool));
    assert!(
        String::from_utf8_lossy(&spooled).contains(&anna),
        "the spool can be searched"
    );
    let summary: Value = serde_json::from_slice(&stage.read("away.json")).unwrap();
    let expected = summary["ledger"]["exchanges"].as_u64().unwrap().to_string();
    let _store = start_store(&stage, store_port);
    let mut collector = stage.collector("back", &output);
    let count = || ask_store(store_port, "SELECT count() FROM weir.http_exchanges");
    wait_until("all exchanges stored", || {
        String::from_utf8_lossy(&count()).trim() == expected
    });
    assert!(collector.terminate());
    let tables = ask_store(
        store_port,
        "SELECT name FROM system.tables WHERE database = 'weir'",
    );
    let tables = String::from_utf8(tables).unwrap();
    let mut stored = Vec::new();
    for table in tables.lines() {
        stored.extend(ask_store(
            store_port,
            &format!("SELECT * FROM weir.{table} FORMAT JSONEachRow"),
        ));
    }
    for table in ["http_exchanges", "otel_traces", "events"] {
        assert!(
            tables.lines().any(|name| name == table),
            "{table} is not among {tables}"
        );
        let rows = ask_store(
            store_port,
            &format!("SELECT * FROM weir.{table} FORMAT JSONEachRow"),
        );
        assert!(!rows.is_empty(), "{table} is empty");
    }
    let outputs = [
        ("metrics", metrics),
        ("spool", spooled),
        ("store", stored),
        ("log while away", stage.read("away.log")),
        ("log when back", stage.read("back.log")),
        (
            "summary",
            [stage.read("away.json"), stage.read("back.json")].concat(),
        ),
    ];
    assert_clean(&traffic.secrets, &outputs);
    let users = "SELECT tenant_id, user_id FROM weir.events ORDER BY timestamp FORMAT TSV";
    let users = String::from_utf8(ask_store(store_port, users)).unwrap();
    let boots = stage.expected("user", "boots", ANNA);
    let berta = stage.expected("user", "lamps", BERTA);
    let expected = format!("lamps\t{anna}\nlamps\t{anna}\nboots\t{boots}\nlamps\t{berta}\n");
    assert_eq!(users, expected);
}
