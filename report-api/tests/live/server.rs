//! A running `report-api` with live funnels, and a Redis beside it.

use std::{
    fs::File,
    path::PathBuf,
    process::{Command, Stdio},
};

use event_store::{Scope, TenantId};
use report_api::NewToken;
use reqwest::{Client, Response};
use weir_testing::{Ended, free_port, wait_until};

pub(crate) const REDIS_PASSWORD: &str = "redis-secret-55";

/// What a server is started from, again and again.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    store: String,
    pub(crate) operator: String,
    pub(crate) shop1: String,
    redis_port: u16,
    _redis: Ended,
}

/// A server.
pub(crate) struct Server {
    pub(crate) process: Ended,
    pub(crate) url: String,
    client: Client,
}

impl Place {
    /// Writes tokens, funnels and webhooks; starts Redis.
    pub(crate) fn new(store: &str, funnels: &[(&str, &str)], webhook: &str, secret: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shop = Scope::Tenant(TenantId::new("t1").unwrap());
        let (operator, shop1) = (NewToken::make(&Scope::Operator), NewToken::make(&shop));
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("tokens.toml", &(operator.entry + &shop1.entry));
        std::fs::create_dir(folder.path().join("funnels")).unwrap();
        for (slug, json) in funnels {
            write(&format!("funnels/{slug}.json"), json);
        }
        write("secret", secret);
        let webhooks = format!(
            "[[webhooks]]\nname = \"bi\"\nurl = \"{webhook}\"\nsecret_file = \"secret\"\n\
             tenant = \"t1\"\nfunnels = [\"checkout\"]\n"
        );
        write("webhooks.toml", &webhooks);
        let redis_port = free_port();
        let mut redis = Command::new("redis-server");
        redis
            .args(["--bind", "127.0.0.1", "--port", &redis_port.to_string()])
            .args(["--save", "", "--requirepass", REDIS_PASSWORD, "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null());
        let redis = Ended::start(&mut redis);
        wait_until("Redis answers", || {
            std::net::TcpStream::connect(("127.0.0.1", redis_port)).is_ok()
        });
        Self {
            folder,
            store: store.to_owned(),
            operator: operator.token,
            shop1: shop1.token,
            redis_port,
            _redis: redis,
        }
    }

    pub(crate) fn redis_url(&self) -> String {
        format!("redis://:{REDIS_PASSWORD}@127.0.0.1:{}/0", self.redis_port)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What all servers so far wrote to their log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    pub(crate) fn start(&self, window: &str) -> Server {
        let port = free_port();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_report-api"));
        command
            .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
            .args([
                "--clickhouse",
                &self.store,
                "--live",
                window,
                "--live-windows",
                "30",
            ])
            .arg("--funnels")
            .arg(self.path("funnels"))
            .arg("--tokens")
            .arg(self.path("tokens.toml"))
            .arg("--webhooks")
            .arg(self.path("webhooks.toml"))
            .env("WEIR_REDIS", self.redis_url())
            .stderr(log);
        let server = Server {
            process: Ended::start(&mut command),
            url: format!("http://127.0.0.1:{port}"),
            client: Client::new(),
        };
        wait_until("the server listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        server
    }
}

impl Server {
    pub(crate) async fn get(&self, path: &str, token: &str) -> Response {
        let request = self.client.get(format!("{}{path}", self.url));
        request.bearer_auth(token).send().await.unwrap()
    }

    pub(crate) async fn metrics(&self) -> String {
        self.get("/metrics", "").await.text().await.unwrap()
    }
}
