//! Windows in a real Redis.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::{
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use funnel_publish::{
    Publisher, RedisSink, Retry, SinkCounts, SinkSettings, Snapshot, StepSnapshot,
};
use redis::{AsyncCommands as _, aio::MultiplexedConnection};
use weir_testing::{Ended, free_port, wait_until};

const DAY_NS: i64 = 86_400_000_000_000;
const DAY_START: i64 = 1_767_225_600_000_000_000;

/// A server without persistence on a free port of this host, ended with the test.
struct Server {
    port: u16,
    folder: tempfile::TempDir,
    process: Ended,
}

impl Server {
    fn start() -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let process = Self::run(port, folder.path());
        Self {
            port,
            folder,
            process,
        }
    }

    fn run(port: u16, folder: &std::path::Path) -> Ended {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(folder)
            .stdout(Stdio::null());
        let process = Ended::start(&mut command);
        wait_until("Redis answers", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        process
    }

    fn restart(&mut self) {
        assert!(self.process.terminate());
        self.process = Self::run(self.port, self.folder.path());
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }
}

fn snapshot(tenant: &str, day: i64, revision: u64, counts: [u64; 2]) -> Snapshot {
    let step = |step: usize, name: &str, count: u64| StepSnapshot {
        step,
        name: name.to_owned(),
        count,
        conversion_from_previous: None,
        conversion_from_start: None,
        drop_off: 0,
        optional: false,
    };
    Snapshot {
        funnel: "checkout".to_owned(),
        tenant: tenant.to_owned(),
        from_ns: DAY_START + day * DAY_NS,
        to_ns: DAY_START + (day + 1) * DAY_NS,
        revision,
        is_final: false,
        steps: vec![step(1, "Login", counts[0]), step(2, "Pay", counts[1])],
    }
}

fn publisher(url: &str) -> Publisher {
    let settings = SinkSettings {
        retry: Retry {
            attempts: 9,
            first_wait: Duration::from_millis(20),
            longest_wait: Duration::from_millis(500),
        },
        ..SinkSettings::default()
    };
    let mut publisher = Publisher::new();
    publisher.add("redis", RedisSink::new(url).unwrap(), settings);
    publisher
}

fn counts(publisher: &Publisher) -> SinkCounts {
    publisher.counts().next().unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_scores_and_a_correction_takes_their_place() {
    let server = Server::start();
    let mut publisher = publisher(&server.url());
    publisher.publish([
        snapshot("t1", 0, 1, [9, 4]),
        snapshot("t2", 0, 1, [5, 1]),
        snapshot("t1", 1, 1, [3, 0]),
    ]);
    wait_until("three windows are there", || {
        counts(&publisher).published == 3
    });
    publisher.publish([snapshot("t1", 0, 2, [10, 6])]);
    publisher.close(Duration::from_secs(10)).await;
    assert_eq!(counts(&publisher).published, 4);
    let mut connection = server.connection().await;
    let first: Vec<(String, u64)> = connection
        .zrevrange_withscores("funnel:20260101", 0, -1)
        .await
        .unwrap();
    let shown: Vec<(&str, u64)> = first
        .iter()
        .map(|(member, score)| (member.as_str(), *score))
        .collect();
    assert_eq!(
        shown,
        [
            ("t1/checkout/Login", 10),
            ("t1/checkout/Pay", 6),
            ("t2/checkout/Login", 5),
            ("t2/checkout/Pay", 1)
        ]
    );
    let second: u64 = connection.zcard("funnel:20260102").await.unwrap();
    assert_eq!(second, 2);
    let left: i64 = connection.ttl("funnel:20260101").await.unwrap();
    assert!((40 * 86_400 - 60..=40 * 86_400).contains(&left), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_away_gets_what_it_missed() {
    let mut server = Server::start();
    let mut publisher = publisher(&server.url());
    publisher.publish([snapshot("t1", 0, 1, [1, 1])]);
    wait_until("the first window is there", || {
        counts(&publisher).published == 1
    });
    server.restart();
    publisher.publish([snapshot("t1", 0, 2, [2, 1])]);
    publisher.close(Duration::from_secs(15)).await;
    assert_eq!(
        (counts(&publisher).published, counts(&publisher).failed),
        (2, 0)
    );
    let score: u64 = server
        .connection()
        .await
        .zscore("funnel:20260101", "t1/checkout/Login")
        .await
        .unwrap();
    assert_eq!(score, 2);
}
