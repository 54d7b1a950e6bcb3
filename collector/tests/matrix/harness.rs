//! Starts what the matrix needs, ends it by its id, and awaits conditions: never a fixed port, never a long sleep.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit};
use weir_testing::{Ended, free_port, wait_until};

/// A server under test, on both address families of one port.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    _process: Option<Ended>,
}

impl Server {
    pub(crate) fn address(&self, v6: bool) -> SocketAddr {
        if v6 {
            SocketAddr::from((Ipv6Addr::LOCALHOST, self.port))
        } else {
            SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
        }
    }

    /// A server in this process.
    pub(crate) fn inside(name: &'static str, serve: impl FnOnce(Vec<TcpListener>)) -> Self {
        let (port, listeners) = listeners();
        serve(listeners);
        Self {
            name,
            port,
            _process: None,
        }
    }

    /// A server in a process of its own, which is told its port.
    pub(crate) fn outside(name: &'static str, command: impl FnOnce(u16) -> Command) -> Self {
        let port = free_port();
        let process = Ended::start(command(port).stderr(Stdio::null()));
        let server = Self {
            name,
            port,
            _process: Some(process),
        };
        for v6 in [false, true] {
            wait_until(name, || TcpStream::connect(server.address(v6)).is_ok());
        }
        server
    }
}

/// One port on both families.
fn listeners() -> (u16, Vec<TcpListener>) {
    let mut found = None;
    wait_until("a port that is free on both families", || {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let second = TcpListener::bind((Ipv6Addr::LOCALHOST, port));
        found = second.ok().map(|second| (port, vec![first, second]));
        found.is_some()
    });
    let (port, listeners) = found.unwrap();
    for listener in &listeners {
        // The standard library's queue of 128 would make a thousand clients wait for a second.
        rustix::net::listen(listener, 4_096).unwrap();
    }
    (port, listeners)
}

/// A script of this folder, run by an interpreter.
pub(crate) fn script(interpreter: &str, name: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/matrix");
    let mut command = Command::new(interpreter);
    command.arg(folder.join(name));
    command
}

/// nginx; what it cannot do itself it asks of a server on `upstream`, which nobody watches.
pub(crate) fn nginx(folder: &Path, port: u16, listen_as: &str, upstream: u16) -> Command {
    fs::create_dir(folder).unwrap();
    // Files without blocks.
    for (name, bytes) in [("big.bin", 64_000_000), ("large.bin", 1 << 30)] {
        let file = File::create(folder.join(name)).unwrap();
        file.set_len(bytes).unwrap();
    }
    for (name, words) in [
        ("chunked", 20_000),
        ("close", 20_000),
        ("chunked-big", 500_000),
    ] {
        fs::write(
            folder.join(name).with_extension("txt"),
            "text ".repeat(words),
        )
        .unwrap();
    }
    let at = folder.display();
    let config = format!(
        "daemon off; user root; worker_processes 2; pid {at}/nginx.pid; error_log {at}/error.log;
         worker_rlimit_nofile 8192;
         events {{ worker_connections 4096; }}
         http {{
           access_log off; sendfile on; keepalive_timeout 120s; default_type text/plain;
           large_client_header_buffers 4 64k; client_max_body_size 8m; client_body_temp_path {at}/body;
           proxy_temp_path {at}/proxy;
           server {{
             listen 127.0.0.1:{port} {listen_as} backlog=4096; listen [::1]:{port} {listen_as} backlog=4096; root {at};
             location ~ ^/[^/]+/plain/ {{ return 200 \"ok\\n\"; }}
             location ~ ^/[^/]+/missing/ {{ return 404 \"no\\n\"; }}
             location ~ ^/[^/]+/fail/ {{ return 503 \"no\\n\"; }}
             location ~ ^/[^/]+/empty/ {{ return 204; }}
             location ~ ^/[^/]+/unchanged/ {{ return 304; }}
             location ~ ^/[^/]+/early/ {{ client_max_body_size 1k; lingering_timeout 100ms; return 200; }}
             location ~ ^/[^/]+/trailers/ {{ add_trailer X-Sum 9; return 200 \"ok\\n\"; }}
             location ~ ^/[^/]+/(chunked|chunked-big|close)/ {{
               sub_filter never found; sub_filter_types *; sub_filter_once off; rewrite ^/[^/]+/([^/]+)/ /$1.txt break; }}
             location ~ ^/[^/]+/(big|large)/ {{ rewrite ^/[^/]+/([^/]+)/ /$1.bin break; }}
             location / {{
               proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; proxy_buffering off;
               proxy_set_header Connection $http_connection; proxy_set_header Upgrade $http_upgrade;
             }}
           }}
         }}"
    );
    fs::write(folder.join("nginx.conf"), config).unwrap();
    let program = ["/usr/sbin/nginx", "nginx"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("nginx");
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.join("nginx.conf"));
    command
}

/// The collector under test.
pub(crate) struct Collector {
    process: Ended,
    ports: Vec<u16>,
    folder: PathBuf,
}

impl Collector {
    /// Returns when traffic is being captured.
    pub(crate) fn start(folder: &Path, servers: &[Server]) -> Self {
        let ports: Vec<u16> = servers.iter().map(|server| server.port).collect();
        let output = format!("ndjson:{}", folder.join("exchanges.ndjson").display());
        let log = folder.join("collector.log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(["run", "--output", &output, "--summary"]);
        command.arg(folder.join("summary.json"));
        for port in &ports {
            command.args(["--port", &port.to_string()]);
        }
        let process = Ended::start(command.stderr(File::create(&log).unwrap()));
        wait_until("the collector watching (it needs root and BPF)", || {
            let said = fs::read_to_string(&log).unwrap();
            assert!(!said.contains("ERROR"), "the collector cannot run: {said}");
            said.contains("watching")
        });
        Self {
            process,
            ports,
            folder: folder.to_owned(),
        }
    }

    /// Waits until every connection has ended in the kernel too, then ends the collector. Returns its exchanges
    /// and its summary.
    pub(crate) fn finish(mut self) -> (PathBuf, serde_json::Value) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let open = open_connections(&self.ports);
            if open.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "not closed: {open:#?}");
            thread::sleep(Duration::from_millis(20));
        }
        let drained = self.process.terminate();
        let said = fs::read_to_string(self.folder.join("collector.log")).unwrap();
        assert!(drained, "SIGTERM drains and exits 0: {said}");
        let summary = fs::read_to_string(self.folder.join("summary.json")).unwrap();
        let exchanges = self.folder.join("exchanges.ndjson");
        (exchanges, serde_json::from_str(&summary).unwrap())
    }
}

/// The kernel's lines about sockets with one of these local ports that still have something to say.
fn open_connections(ports: &[u16]) -> Vec<String> {
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    let mut open = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = fields[1].rsplit(':').next().unwrap();
            let port = u16::from_str_radix(port, 16).unwrap();
            if ports.contains(&port) && fields[3] != TIME_WAIT && fields[3] != LISTEN {
                open.push(line.to_owned());
            }
        }
    }
    open
}

/// A port below those that the kernel gives to clients, so that nobody else takes it between two uses.
pub(crate) fn own_port(v6: bool) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let mut port = 0;
    wait_until("a port of our own", || {
        port = start + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000;
        if v6 {
            TcpListener::bind((Ipv6Addr::LOCALHOST, port)).is_ok()
        } else {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        }
    });
    port
}

/// Thousands of connections need as many descriptors.
pub(crate) fn allow_many_files() {
    const WANTED: u64 = 10_000;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    assert!(maximum >= WANTED, "the hard limit of open files is too low");
    let current = limit.current.unwrap_or(u64::MAX).max(WANTED);
    let raised = Rlimit {
        current: Some(current),
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(Resource::Nofile, raised).unwrap();
}
