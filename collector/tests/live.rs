//! The real thing: Debian's nginx under mixed load, watched from the real kernel. The independent truth is nginx's
//! own access log: every line of it must be an exchange, with the same method, path, status and bytes.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use weir_testing::{Ended, free_port, wait_until};

fn start_nginx(folder: &Path, port: u16) -> Ended {
    fs::create_dir(folder.join("html")).unwrap();
    fs::write(folder.join("html/index.html"), "hello\n").unwrap();
    fs::write(folder.join("html/large.bin"), vec![7_u8; 30_000_000]).unwrap();
    let at = folder.display();
    let config = format!(
        "daemon off; user root; worker_processes 2; pid {at}/nginx.pid; error_log {at}/error.log;
         events {{ worker_connections 1024; }}
         http {{
           log_format weir '$remote_addr $remote_port $request_method $request_uri $status $bytes_sent $request_time';
           access_log off; sendfile on; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
           server {{ listen 127.0.0.1:{port}; listen [::1]:{port}; root {at}/html; access_log {at}/access.log weir;
             location /post {{ return 200 \"thanks\\n\"; }} }}
         }}"
    );
    fs::write(folder.join("nginx.conf"), config).unwrap();
    let program = ["/usr/sbin/nginx", "nginx"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("nginx");
    let child = Command::new(program)
        .args(["-c", &folder.join("nginx.conf").to_string_lossy()])
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx is needed: cargo xtask setup");
    let nginx = Ended(child);
    wait_until("nginx listening", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    nginx
}

fn start_collector(folder: &Path, port: u16, output: &[&str]) -> Ended {
    let child = Command::new(env!("CARGO_BIN_EXE_collector"))
        .env("WEIR_STORE_PASSWORD", PASSWORD)
        .args(["run", "--port", &port.to_string()])
        .args(output)
        .args(["--record", &folder.join("recording").to_string_lossy()])
        .args(["--summary", &folder.join("summary.json").to_string_lossy()])
        .args(["--pseudonym-key", &folder.join("key").to_string_lossy()])
        .stderr(fs::File::create(folder.join("collector.log")).unwrap())
        .spawn()
        .unwrap();
    let collector = Ended(child);
    let log = || fs::read_to_string(folder.join("collector.log")).unwrap();
    wait_until("the collector watching (it needs root and BPF)", || {
        assert!(
            !log().contains("ERROR"),
            "the collector cannot run here; this test needs root and BPF:\n{}",
            log()
        );
        log().contains("watching")
    });
    collector
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Bytes sent raw over one connection; returns when the server has closed it.
fn raw(port: u16, parts: &[&[u8]]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    for part in parts {
        stream.write_all(part).unwrap();
        // Nothing tells when a segment has left; the pause keeps the kernel from joining the parts into one.
        thread::sleep(Duration::from_millis(3));
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
}

fn load(folder: &Path, port: u16) {
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let at = folder.display();
    fs::write(folder.join("upload"), vec![b'b'; 300_000]).unwrap();
    run("wrk", &["-t1", "-c16", "-d2s", &url("/")]);
    run("wrk", &["-t1", "-c4", "-d1s", &url("/missing")]);
    for _ in 0..3 {
        run(
            "curl",
            &[
                "-s",
                "-o",
                "/dev/null",
                &url("/large.bin"),
                &url("/"),
                &url("/large.bin?x=1"),
            ],
        );
        run(
            "curl",
            &[
                "-s",
                "-o",
                "/dev/null",
                "--data-binary",
                &format!("@{at}/upload"),
                &url("/post"),
            ],
        );
        run("curl", &["-s", "-o", "/dev/null", "-I", &url("/large.bin")]);
        run(
            "curl",
            &["-s", "-o", "/dev/null", &format!("http://[::1]:{port}/six")],
        );
        run("curl", &["-s", "-o", "/dev/null", "-0", &url("/")]);
    }
    let python = format!(
        "import http.client\nc = http.client.HTTPConnection('127.0.0.1', {port})\nfor n in range(200):\n  c.request('POST' if n % 3 else 'GET', '/post' if n % 3 else '/', body=b'x' * n if n % 3 else None)\n  c.getresponse().read()"
    );
    run("python3", &["-c", &python]);
    let pipelined = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20),
        b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec(),
    ]
    .concat();
    raw(port, &[&pipelined]);
    raw(
        port,
        &[
            b"GE",
            b"T /split HTTP/1.1\r\nHo",
            b"st: a\r\nConnection: cl",
            b"ose\r\n\r",
            b"\n",
        ],
    );
    let cookie = format!(
        "GET /cookie HTTP/1.1\r\nHost: a\r\nCookie: a={}\r\nConnection: close\r\n\r\n",
        "c".repeat(3_000)
    );
    raw(port, &[cookie.as_bytes()]);
}

/// Method, path, status and bytes, as text.
type What = [String; 4];

/// Per client address and port, in order: what was exchanged, and how long it took in milliseconds.
type Lines = BTreeMap<(String, String), Vec<(What, f64)>>;

fn from_access_log(folder: &Path) -> Lines {
    let mut lines = Lines::new();
    let log = fs::read_to_string(folder.join("access.log")).unwrap();
    for line in log.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [address, port, method, path, status, bytes, seconds] = fields[..] else {
            panic!("unexpected line {line}")
        };
        let path = path.split('?').next().unwrap();
        let what = [method, path, status, bytes].map(str::to_owned);
        let client = (address.to_owned(), port.to_owned());
        let took_ms = seconds.parse::<f64>().unwrap() * 1_000.0;
        lines.entry(client).or_default().push((what, took_ms));
    }
    lines
}

fn from_exchanges(file: &Path) -> Lines {
    let mut lines = Lines::new();
    for line in fs::read_to_string(file).unwrap().lines() {
        let exchange: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| {
            exchange[key]
                .as_str()
                .map_or_else(|| exchange[key].to_string(), str::to_owned)
        };
        let what = ["method", "path", "status_code", "response_bytes"].map(text);
        let client = (text("client_address"), text("client_port"));
        let took_ms = exchange["duration_ns"].as_f64().unwrap() / 1e6;
        lines.entry(client).or_default().push((what, took_ms));
    }
    lines
}

/// Takes out what wrk tore down in flight: nginx logs what it wrote into the socket, and the wire shows what left
/// before the reset. Those few are compared by number only.
fn without_torn(lines: &mut Lines) -> usize {
    let count = |lines: &Lines| lines.values().map(Vec::len).sum::<usize>();
    let before = count(lines);
    for connection in lines.values_mut() {
        connection.retain(|(what, _)| what[2] != "499" && what[2] != "null");
    }
    lines.retain(|_, connection| !connection.is_empty());
    before - count(lines)
}

/// Line for line: the same exchange on the same connection at the same place, and how the durations differ.
fn assert_same_lines(captured: &Lines, logged: &Lines) -> Vec<f64> {
    assert!(
        captured.keys().eq(logged.keys()),
        "not the same connections"
    );
    let mut differences = Vec::new();
    for (client, expected) in logged {
        let found = &captured[client];
        assert_eq!(found.len(), expected.len(), "on {client:?}");
        for ((found, captured_ms), (expected, logged_ms)) in found.iter().zip(expected) {
            assert_eq!(found, expected, "on {client:?}");
            differences.push(captured_ms - logged_ms);
        }
    }
    differences.sort_by(f64::total_cmp);
    differences
}

/// nginx gives whole milliseconds of a clock that it reads once per turn of its event loop, and starts it when it
/// gets round to the request; ours starts when the request reaches the host. So ours is the longer one, by little.
fn assert_durations_agree(differences: &[f64]) {
    let close = differences
        .iter()
        .filter(|difference| (-2.0..20.0).contains(*difference))
        .count();
    let (shortest, longest) = (differences[0], differences[differences.len() - 1]);
    assert!(
        close * 100 >= differences.len() * 99 && shortest > -100.0 && longest < 500.0,
        "{close} of {} durations agree; they differ by {shortest} to {longest} ms",
        differences.len()
    );
}

#[test]
fn every_line_of_the_access_log_is_an_exchange() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let port = free_port();
    let mut nginx = start_nginx(folder, port);
    let output = format!("ndjson:{}", folder.join("exchanges.ndjson").display());
    let mut collector = start_collector(folder, port, &["--output", &output]);
    load(folder, port);
    // nginx writes its log line after the last byte; ending it gracefully lets every line be written.
    Command::new("kill")
        .args(["-QUIT", &nginx.0.id().to_string()])
        .status()
        .unwrap();
    nginx.0.wait().unwrap();
    assert!(collector.terminate(), "SIGTERM drains and exits 0");
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["lost"], 0, "{summary}");
    let mut logged = from_access_log(folder);
    let mut captured = from_exchanges(&folder.join("exchanges.ndjson"));
    let torn = (without_torn(&mut logged), without_torn(&mut captured));
    assert!(torn.0.abs_diff(torn.1) <= 20, "{torn:?} torn exchanges");
    let differences = assert_same_lines(&captured, &logged);
    assert!(
        differences.len() >= 20_000,
        "too few lines to prove anything"
    );
    assert_durations_agree(&differences);
    let replayed = folder.join("replayed.ndjson");
    let recording = folder.join("recording");
    let output = format!("ndjson:{}", replayed.display());
    run(
        env!("CARGO_BIN_EXE_collector"),
        &["replay", &recording.to_string_lossy(), "--output", &output],
    );
    let mut again = from_exchanges(&replayed);
    without_torn(&mut again);
    assert!(
        again == captured,
        "a recording replays to the same exchanges"
    );
}

/// Of the store; it must not appear in any log.
const PASSWORD: &str = "geheim-4711";

/// The store's server, from the same build.
fn start_store(folder: &Path, port: u16) -> Ended {
    let test = std::env::current_exe().unwrap();
    let binaries = test.parent().unwrap().parent().unwrap();
    let child = Command::new(binaries.join("event-store"))
        .env("WEIR_STORE_PASSWORD", PASSWORD)
        .args([
            "serve",
            "--path",
            &folder.join("data").to_string_lossy(),
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

fn count_stored(port: u16) -> String {
    let url = format!("http://127.0.0.1:{port}/?query=SELECT+count()+FROM+weir.http_exchanges");
    let output = Command::new("curl")
        .args(["-s", "-u", &format!("default:{PASSWORD}"), &url])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn exchanges_wait_on_disk_while_the_store_is_away_and_are_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (port, store_port) = (free_port(), free_port());
    let _nginx = start_nginx(folder, port);
    let url = format!("http://127.0.0.1:{store_port}");
    let spool = folder.join("spool");
    let output = ["--clickhouse", &url, "--spool", &spool.to_string_lossy()];
    let mut collector = start_collector(folder, port, &output);
    let ask = || {
        run(
            "curl",
            &[
                "-s",
                "-o",
                "/dev/null",
                &format!("http://127.0.0.1:{port}/[1-50]"),
            ],
        );
    };
    ask();
    wait_until("a batch in the spool", || {
        let mut files = fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap());
        files.any(|file| {
            let is_segment = file
                .path()
                .extension()
                .is_some_and(|extension| extension == "seg");
            is_segment && file.metadata().unwrap().len() > 0
        })
    });
    // Ended while the store is away, the collector leaves its batches to the next one.
    assert!(collector.terminate());
    let mut collector = start_collector(folder, port, &output);
    ask();
    let _store = start_store(folder, store_port);
    wait_until("all exchanges stored", || count_stored(store_port) == "100");
    assert!(collector.terminate());
    let log = fs::read_to_string(folder.join("collector.log")).unwrap();
    assert!(!log.contains("batches stay in the spool"), "{log}");
    assert_eq!(count_stored(store_port), "100", "each exactly once");
    for file in ["collector.log", "summary.json"] {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        assert!(!text.contains(PASSWORD), "{file} holds the password");
    }
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["lost"], 0, "{summary}");
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let said = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_collector"))
            .args(args)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let cases: [(&[&str], Option<i32>, &str); 7] = [
        (&["run", "--output", "ndjson:-"], Some(2), "give --port"),
        (&["run", "--port", "1"], Some(2), "give --output"),
        (
            &["run", "--port", "1", "--output", "csv:x"],
            Some(2),
            "ndjson:FILE",
        ),
        (
            &[
                "run",
                "--process",
                "no-such-process",
                "--output",
                "ndjson:-",
            ],
            Some(2),
            "ss -ltnp",
        ),
        (&["replay", "Cargo.toml"], Some(1), "no recording"),
        (
            &[
                "run", "--port", "1", "--cgroup", "/tmp", "--output", "ndjson:-",
            ],
            Some(1),
            "/tmp is no directory of cgroup v2",
        ),
        (
            &["run", "--config", "Cargo.toml", "--output", "ndjson:-"],
            Some(2),
            "unknown field",
        ),
    ];
    for (args, code, hint) in cases {
        let (status, text) = said(args);
        assert_eq!(status, code, "{args:?}: {text}");
        assert!(text.contains(hint), "{args:?} should say `{hint}`: {text}");
    }
}

/// The collector as it runs without the capabilities that BPF needs, also for root.
fn unprivileged(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("setpriv")
        .arg("--bounding-set=-sys_admin,-bpf,-net_admin,-perfmon")
        .arg(env!("CARGO_BIN_EXE_collector"))
        .args(args)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn without_privileges_it_says_which_are_missing() {
    let (code, text) = unprivileged(&["run", "--port", "1", "--output", "ndjson:-"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("run as root or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"),
        "{text}"
    );
    let (code, text) = unprivileged(&["doctor"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains(
            "FAIL  capabilities                 missing CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN"
        ),
        "{text}"
    );
}

#[test]
fn watching_what_is_no_http_is_said_loudly() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let log = folder.path().join("collector.log");
    let output = format!(
        "ndjson:{}",
        folder.path().join("exchanges.ndjson").display()
    );
    let metrics = format!("127.0.0.1:{}", free_port());
    let child = Command::new(env!("CARGO_BIN_EXE_collector"))
        .args([
            "run",
            "--port",
            &port.to_string(),
            "--output",
            &output,
            "--metrics",
            &metrics,
        ])
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut collector = Ended(child);
    wait_until("the collector watching", || {
        TcpStream::connect(&metrics).is_ok()
    });
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client
        .write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3])
        .unwrap();
    server.write_all(&[0xff, 0, 0xfe, 7]).unwrap();
    drop((client, server));
    wait_until("the segments being read", || {
        let text = Command::new("curl")
            .args(["-s", &format!("http://{metrics}/metrics")])
            .output()
            .unwrap();
        String::from_utf8(text.stdout)
            .unwrap()
            .contains("weir_collector_tls_connections_total 1")
    });
    assert!(collector.terminate());
    let said = fs::read_to_string(&log).unwrap();
    assert!(
        said.contains("nothing was captured: the traffic is TLS"),
        "{said}"
    );
    assert!(!said.contains('\u{1b}'), "no colours in a file: {said}");
}

/// As somebody who is not root and has the three capabilities that are asked for, and no others.
#[test]
fn three_capabilities_are_enough_and_are_given_up_after_attaching() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let port = free_port();
    let _nginx = start_nginx(folder, port);
    // Somewhere that anybody can read and write; the test's own folder is root's.
    let theirs = folder.join("theirs");
    fs::create_dir(&theirs).unwrap();
    let program = theirs.join("collector");
    fs::copy(env!("CARGO_BIN_EXE_collector"), &program).unwrap();
    for path in [folder, &theirs] {
        run("chmod", &["777", &path.to_string_lossy()]);
    }
    let metrics = format!("127.0.0.1:{}", free_port());
    let file = |name: &str| theirs.join(name).to_string_lossy().into_owned();
    let log = fs::File::create(folder.join("collector.log")).unwrap();
    let child = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args([
            "--inh-caps=-all,+bpf,+perfmon,+net_admin",
            "--ambient-caps=-all,+bpf,+perfmon,+net_admin",
        ])
        .arg("--bounding-set=-all,+bpf,+perfmon,+net_admin")
        .arg(&program)
        .args(["run", "--port", &port.to_string(), "--metrics", &metrics])
        .args(["--output", &format!("ndjson:{}", file("out.ndjson"))])
        .args([
            "--summary",
            &file("summary.json"),
            "--pseudonym-key",
            &file("key"),
        ])
        .stderr(log)
        .spawn()
        .unwrap();
    let mut collector = Ended(child);
    let said = || fs::read_to_string(folder.join("collector.log")).unwrap();
    wait_until("the collector watching", || {
        assert!(!said().contains("ERROR"), "{}", said());
        TcpStream::connect(&metrics).is_ok()
    });
    let status = fs::read_to_string(format!("/proc/{}/status", collector.0.id())).unwrap();
    let left = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .unwrap();
    let left = u64::from_str_radix(left.trim(), 16).unwrap();
    assert_eq!(left & (1 << 12), 0, "CAP_NET_ADMIN is given up: {left:x}");
    run(
        "curl",
        &[
            "-s",
            "-o",
            "/dev/null",
            &format!("http://127.0.0.1:{port}/[1-20]"),
        ],
    );
    assert!(collector.terminate());
    let lines = fs::read_to_string(file("out.ndjson")).unwrap();
    assert_eq!(lines.lines().count(), 20, "{}", said());
}

/// Root has all capabilities; of those only what is still needed is left after attaching.
#[test]
fn root_gives_up_what_is_not_needed() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let output = ["--output", "none", "--tls", "off"];
    let collector = start_collector(folder.path(), port, &output);
    let tasks = fs::read_dir(format!("/proc/{}/task", collector.0.id())).unwrap();
    for task in tasks {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
            let hex = status
                .lines()
                .find_map(|line| line.strip_prefix(set))
                .unwrap();
            let left = u64::from_str_radix(hex.trim(), 16).unwrap();
            // CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SETUID, CAP_SYS_MODULE.
            for bit in [12, 21, 7, 16] {
                assert_eq!(left & (1 << bit), 0, "{set} {left:x} still has {bit}");
            }
        }
    }
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_it_from_ending() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = format!("127.0.0.1:{}", free_port());
    let mut child = Command::new(env!("CARGO_BIN_EXE_collector"))
        .args([
            "run",
            "--port",
            "1",
            "--output",
            "none",
            "--metrics",
            &metrics,
        ])
        .args([
            "--pseudonym-key",
            &folder.path().join("key").to_string_lossy(),
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the collector watching", || {
        TcpStream::connect(&metrics).is_ok()
    });
    drop(child.stderr.take());
    assert!(Ended(child).terminate());
}

#[test]
fn the_doctor_finds_this_machine_fit() {
    let output = Command::new(env!("CARGO_BIN_EXE_collector"))
        .arg("doctor")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "this machine cannot run the live tests:\n{text}"
    );
    assert!(text.contains("ok    cgroup_skb hooks"), "{text}");
}
