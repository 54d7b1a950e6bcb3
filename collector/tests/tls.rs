//! TLS in plain text, from the outside: real servers with OpenSSL shared (1.1 and 3), carried inside (Node), over
//! sockets and over memory buffers; and one whose library cannot be read. The independent truth is what was asked.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "helpers of tests fail the test"
)]

use std::{
    collections::BTreeMap,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use weir_testing::{Ended, free_port, wait_until};

struct Ports {
    nginx: u16,
    nginx_h2: u16,
    threads: u16,
    asyncio: u16,
    node: u16,
    openssl11: u16,
    gnutls: u16,
}

struct Site {
    folder: tempfile::TempDir,
    ports: Ports,
    _servers: Vec<Ended>,
}

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls")
}

fn spawn(program: &str, args: &[&str]) -> Ended {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    Ended::start(command.stdout(Stdio::null()).stderr(Stdio::null()))
}

fn nginx(folder: &Path, ports: &Ports) -> Ended {
    let at = folder.display();
    fs::create_dir(folder.join("html")).unwrap();
    fs::write(folder.join("html/large"), vec![b'x'; 3_000_000]).unwrap();
    let server = |port: u16, h2: &str| {
        format!(
            "server {{ listen 127.0.0.1:{port} ssl{h2}; root {at}/html; ssl_certificate {at}/cert.pem;
             ssl_certificate_key {at}/key.pem; location /ok {{ return 200 fine; }} }}"
        )
    };
    let config = format!(
        "daemon off; user root; worker_processes 2; pid {at}/nginx.pid; error_log {at}/error.log;
         events {{ worker_connections 256; }}
         http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; {} {} }}",
        server(ports.nginx, ""),
        server(ports.nginx_h2, " http2")
    );
    fs::write(folder.join("nginx.conf"), config).unwrap();
    let program = if Path::new("/usr/sbin/nginx").exists() {
        "/usr/sbin/nginx"
    } else {
        "nginx"
    };
    spawn(
        program,
        &["-c", &folder.join("nginx.conf").to_string_lossy()],
    )
}

/// Where setup puts the libraries of OpenSSL 1.1.
fn openssl11() -> String {
    let home = std::env::var("HOME").unwrap();
    let folder = Path::new(&home).join(".cache/weir/openssl-1.1");
    assert!(folder.exists(), "OpenSSL 1.1 is needed: cargo xtask setup");
    folder.to_string_lossy().into_owned()
}

impl Site {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        let (cert, key) = (
            cert.to_string_lossy().into_owned(),
            key.to_string_lossy().into_owned(),
        );
        let made = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args(["-subj", "/CN=localhost", "-keyout", &key, "-out", &cert])
            .output()
            .unwrap();
        assert!(made.status.success());
        let ports = Ports {
            nginx: free_port(),
            nginx_h2: free_port(),
            threads: free_port(),
            asyncio: free_port(),
            node: free_port(),
            openssl11: free_port(),
            gnutls: free_port(),
        };
        let script = |name: &str| tests_folder().join(name).to_string_lossy().into_owned();
        let libraries = openssl11();
        let number = |port: u16| port.to_string();
        let mut servers = vec![nginx(folder.path(), &ports)];
        for (program, file, port) in [
            ("python3", "threads.py", ports.threads),
            ("python3", "asyncio_server.py", ports.asyncio),
            ("node", "node.js", ports.node),
        ] {
            servers.push(spawn(program, &[&script(file), &cert, &key, &number(port)]));
        }
        let old = [
            &script("openssl11.py"),
            &libraries,
            &cert,
            &key,
            &number(ports.openssl11),
        ];
        let child = Command::new("python3")
            .args(old)
            .env("LD_LIBRARY_PATH", &libraries)
            .spawn()
            .unwrap();
        servers.push(Ended(child));
        let gnutls = [
            "--http",
            "--x509certfile",
            &cert,
            "--x509keyfile",
            &key,
            "-p",
            &number(ports.gnutls),
        ];
        servers.push(spawn("gnutls-serv", &gnutls));
        let site = Self {
            folder,
            ports,
            _servers: servers,
        };
        for port in site.all() {
            wait_until(&format!("a server listening on {port}"), || {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
        }
        site
    }

    const fn all(&self) -> [u16; 7] {
        let p = &self.ports;
        [
            p.nginx,
            p.nginx_h2,
            p.threads,
            p.asyncio,
            p.node,
            p.openssl11,
            p.gnutls,
        ]
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }
}

struct Collector {
    process: Ended,
    metrics: String,
    log: String,
}

fn watch(site: &Site, further: &[&str]) -> Collector {
    let metrics = format!("127.0.0.1:{}", free_port());
    let log = site.path("collector.log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
    command.args(["run", "--metrics", &metrics]).args(further);
    for port in site.all() {
        command.args(["--port", &port.to_string()]);
    }
    let child = command
        .args(["--output", &format!("ndjson:{}", site.path("out.ndjson"))])
        .args(["--summary", &site.path("summary.json")])
        .args(["--pseudonym-key", &site.path("key")])
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    wait_until("the collector watching (it needs root and BPF)", || {
        TcpStream::connect(&metrics).is_ok()
    });
    Collector {
        process: Ended(child),
        metrics,
        log,
    }
}

impl Collector {
    fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.metrics);
        let output = Command::new("curl").args(["-s", &url]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ends it; returns what it wrote and logged.
    fn end(mut self, site: &Site) -> (Vec<Value>, String) {
        assert!(self.process.terminate());
        let lines = fs::read_to_string(site.path("out.ndjson")).unwrap();
        let exchanges = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        (exchanges.collect(), fs::read_to_string(&self.log).unwrap())
    }
}

/// Asks with curl; true when there was an answer.
fn curl(args: &[&str]) -> bool {
    let mut curl = Command::new("curl");
    let output = curl
        .args(["-s", "-S", "-m", "20"])
        .args(args)
        .output()
        .unwrap();
    output.status.success()
}

/// Method, path, status, protocol, request bytes and response bytes where they are known.
type What = (String, String, u64, String);

/// Asks everything there is to ask, several times. Returns what must be seen, and how often.
fn ask(site: &Site) -> BTreeMap<What, usize> {
    let p = &site.ports;
    let mut expected: BTreeMap<What, usize> = BTreeMap::new();
    let mut expect = |method: &str, path: &str, status: u64, protocol: &str| {
        let what = (
            method.to_owned(),
            path.to_owned(),
            status,
            protocol.to_owned(),
        );
        *expected.entry(what).or_default() += 1;
    };
    for _ in 0..5 {
        let cases: [(u16, &str, &[&str]); 6] = [
            (p.nginx, "nginx", &[]),
            (p.threads, "threads", &[]),
            (p.asyncio, "asyncio", &[]),
            (p.node, "node", &[]),
            (p.openssl11, "openssl11", &[]),
            (p.nginx, "tls12", &["--tls-max", "1.2"]),
        ];
        for (port, name, further) in cases {
            let url = |path: &str| format!("https://127.0.0.1:{port}{path}");
            // Two on one connection, the path a name of its own for each kind of server.
            let (first, second) = (format!("/ok/{name}/1"), format!("/ok/{name}/2"));
            let (a, b) = (url(&first), url(&second));
            let mut args = vec![
                "-k",
                "--http1.1",
                "-o",
                "/dev/null",
                "-o",
                "/dev/null",
                &a,
                &b,
            ];
            args.extend(further);
            assert!(curl(&args), "{name}");
            expect("GET", &first, 200, "http/1.1");
            expect("GET", &second, 200, "http/1.1");
        }
        for port in [p.nginx, p.threads] {
            let url = format!("https://127.0.0.1:{port}/large");
            assert!(curl(&["-k", "--http1.1", "-o", "/dev/null", &url]));
            expect("GET", "/large", 200, "http/1.1");
        }
        let (a, b) = (
            format!("https://127.0.0.1:{}/ok/h2/1", p.nginx_h2),
            format!("https://127.0.0.1:{}/none", p.nginx_h2),
        );
        assert!(curl(&[
            "-k",
            "--http2",
            "-o",
            "/dev/null",
            "-o",
            "/dev/null",
            &a,
            &b
        ]));
        expect("GET", "/ok/h2/1", 200, "h2");
        expect("GET", "/none", 404, "h2");
        let upload = format!("@{}", site.path("html/large"));
        let url = format!("https://127.0.0.1:{}/upload", p.node);
        assert!(curl(&[
            "-k",
            "--http1.1",
            "-o",
            "/dev/null",
            "--data-binary",
            &upload,
            &url
        ]));
        expect("POST", "/upload", 200, "http/1.1");
    }
    expected
}

fn seen(exchanges: &[Value], role: &str) -> BTreeMap<What, usize> {
    let mut seen = BTreeMap::new();
    for exchange in exchanges.iter().filter(|exchange| exchange["role"] == role) {
        assert_eq!(exchange["tls"], true, "{exchange}");
        assert_eq!(exchange["outcome"], "ok", "{exchange}");
        // Who called is known without anything in the traffic saying so.
        assert_eq!(
            exchange["attributes"]["client_service"], "curl",
            "{exchange}"
        );
        let text = |key: &str| exchange[key].as_str().unwrap_or("null").to_owned();
        let status = exchange["status_code"].as_u64().unwrap_or(0);
        let what = (text("method"), text("path"), status, text("protocol"));
        *seen.entry(what).or_default() += 1;
    }
    seen
}

/// The value of the first series that begins so; series begin at zero, so that being there proves nothing.
fn value_of(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find(|line| line.starts_with(series));
    let value = line.and_then(|line| line.rsplit_once(' '));
    value.map_or(0.0, |(_, value)| value.parse().unwrap())
}

#[test]
fn plain_text_of_every_openssl_is_joined_to_its_connection_once() {
    let site = Site::open();
    let collector = watch(&site, &["--side", "both"]);
    let expected = ask(&site);
    // A client that does not trust the certificate breaks the handshake off; GnuTLS cannot be read at all.
    let strict = format!("https://127.0.0.1:{}/refused", site.ports.nginx);
    assert!(!curl(&[&strict]));
    let foreign = format!("https://127.0.0.1:{}/unseen", site.ports.gnutls);
    assert!(curl(&["-k", "-o", "/dev/null", &foreign]));
    wait_until("the last exchange being written", || {
        let lines = fs::read_to_string(site.path("out.ndjson")).unwrap();
        lines.lines().count() >= 2 * expected.values().sum::<usize>()
    });
    // Looked up every two seconds, the rest at once.
    wait_until("the probes' cost being looked up", || {
        collector
            .metrics()
            .contains("weir_tls_probe_hits_total{process=\"nginx\"")
    });
    let metrics = collector.metrics();
    let (exchanges, log) = collector.end(&site);
    // The client's OpenSSL is read too, also where it talks to a server that cannot be read.
    let mut client_side = seen(&exchanges, "client");
    let unseen = (
        "GET".to_owned(),
        "/unseen".to_owned(),
        200,
        "http/1.0".to_owned(),
    );
    client_side.retain(|what, _| what.1 != unseen.1);
    assert_eq!(client_side, expected, "beside the clients");
    assert_eq!(seen(&exchanges, "server"), expected, "beside the servers");
    let large = exchanges
        .iter()
        .filter(|exchange| exchange["path"] == "/large");
    assert!(
        large
            .clone()
            .all(|exchange| exchange["response_bytes"].as_u64().unwrap() > 3_000_000)
    );
    assert!(large.count() >= 20);
    for (metric, reason) in [
        (
            "weir_tls_handshake_failures_total{service=\"nginx\",reason=\"unknown_ca\"} ",
            "a refusal",
        ),
        (
            "weir_tls_handshake_seconds_count{service=\"threads.py\",version=\"tls1.3\"} ",
            "a handshake",
        ),
        (
            "weir_tls_handshake_seconds_count{service=\"nginx\",version=\"tls1.2\"} ",
            "an older one",
        ),
        (
            "weir_tls_unreadable_processes{process=\"gnutls-serv\",library=\"GnuTLS\"}",
            "GnuTLS named",
        ),
        (
            "weir_tls_probe_hits_total{process=\"nginx\"",
            "the cost of nginx",
        ),
        (
            "weir_tcp_connect_seconds_count{service=\"nginx\"} ",
            "connects",
        ),
        (
            "weir_tcp_round_trip_seconds_count{service=\"nginx\"} ",
            "round trips",
        ),
        (
            "weir_service_calls_total{client=\"curl\",server=\"nginx\"",
            "an edge of the service map",
        ),
    ] {
        assert!(
            value_of(&metrics, metric) > 0.0,
            "{reason} is missing:\n{metrics}"
        );
    }
    assert!(log.contains("library=\"GnuTLS\""), "{log}");
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(site.path("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["lost"], 0, "{summary}");
    assert!(
        summary["ledger"]["tls_unread_connections"]
            .as_u64()
            .unwrap()
            >= 1,
        "{summary}"
    );
}

#[test]
fn switched_off_no_plain_text_is_read_and_handshakes_still_are() {
    let site = Site::open();
    let collector = watch(&site, &["--tls", "off"]);
    let url = format!("https://127.0.0.1:{}/ok/secret", site.ports.nginx);
    assert!(curl(&["-k", "-o", "/dev/null", &url]));
    wait_until("the handshake being counted", || {
        collector
            .metrics()
            .contains("weir_tls_handshake_seconds_count{service=\"nginx\"")
    });
    let (exchanges, log) = collector.end(&site);
    assert!(exchanges.is_empty(), "{exchanges:?}");
    assert!(
        log.contains("the traffic is TLS, and no probe reads"),
        "{log}"
    );
}
