//! The console in a real Chromium: from signing in over a drop-off to the trace of a buyer who dropped, with
//! and without JavaScript. With `WEIR_SCREENSHOTS=DIR` the pages are also kept as pictures.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use event_store::{ExchangeRow, Scope, Store};
use report_api::{Access, NewToken, Settings, load_funnels, serve};
use thirtyfour::prelude::*;
use tokio::net::TcpListener;
use weir_testing::{TestStore, exchange, free_port, span, wait_until};

const FUNNEL: &str = r#"{"name":"Login to payment","window":"14d","steps":[{"name":"Login","event":"login"},{"name":"Cart","event":"cart"},{"name":"Pay","event":"pay"}]}"#;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const MS: i64 = 1_000_000;

/// An hour ago.
static START: LazyLock<i64> = LazyLock::new(|| {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    i64::try_from(now).unwrap() - 3_600_000 * MS
});

/// chromedriver and a folder for the browser's profile, gone with the test.
struct Browser {
    driver: Child,
    url: String,
    profile: tempfile::TempDir,
}

impl Browser {
    fn start() -> Self {
        let port = free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("chromedriver is needed ({error}): cargo xtask setup installs it")
            });
        wait_until("chromedriver", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            driver,
            url: format!("http://127.0.0.1:{port}"),
            profile: tempfile::tempdir().unwrap(),
        }
    }

    async fn open(&self, javascript: bool) -> WebDriver {
        let mut capabilities = DesiredCapabilities::chrome();
        let profile = self
            .profile
            .path()
            .join(if javascript { "with" } else { "without" });
        for argument in [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-quic",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--window-size=1280,1500",
            &format!("--user-data-dir={}", profile.display()),
        ] {
            capabilities.add_arg(argument).unwrap();
        }
        if !javascript {
            let blocked =
                serde_json::json!({ "profile.managed_default_content_settings.javascript": 2 });
            capabilities
                .add_experimental_option("prefs", blocked)
                .unwrap();
        }
        WebDriver::new(&self.url, capabilities).await.unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.driver.kill().unwrap_or_default();
        self.driver.wait().map(drop).unwrap_or_default();
    }
}

/// The API over a store; its address that signs the operator in.
async fn serve_console(store: Store) -> String {
    let folder = tempfile::tempdir().unwrap();
    let token = NewToken::make(&Scope::Operator);
    std::fs::write(folder.path().join("tokens.toml"), &token.entry).unwrap();
    std::fs::write(folder.path().join("checkout.json"), FUNNEL).unwrap();
    let settings = Settings {
        index: None,
        store,
        funnels: load_funnels(folder.path()).unwrap(),
        access: Access::load(&folder.path().join("tokens.toml")).unwrap(),
        live: None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/?token={}",
        listener.local_addr().unwrap(),
        token.token
    );
    tokio::spawn(serve(settings, listener, std::future::pending()));
    url
}

/// 100 log in, 73 fill the cart, 45 pay, over half an hour; one who did not pay has a trace of two services.
async fn fill(store: &Store) {
    let mut rows = Vec::new();
    for buyer in 0..100_i64 {
        let (user, start) = (format!("buyer-{buyer:03}"), *START + buyer * 18_000 * MS);
        rows.push(exchange(start, &user, "login"));
        let think = 4_000 * MS + buyer * buyer * 9 * MS;
        if buyer < 73 {
            rows.push(exchange(start + think, &user, "cart"));
        }
        if buyer < 45 {
            rows.push(exchange(start + think * 3, &user, "pay"));
        }
    }
    let failed = ExchangeRow {
        status_code: Some(502),
        outcome: "error".to_owned(),
        duration_ns: 412_600_000,
        route: Some("/pay".to_owned()),
        trace_id: Some(TRACE.to_owned()),
        ..exchange(*START + 3_599_000 * MS, "buyer-072", "pay.failed")
    };
    rows.push(failed);
    store.insert_exchanges(&rows, "rows").await.unwrap();
    fill_trace(store).await;
}

/// The trace of the failed payment: two services, each seen by the kernel and telling spans of its own.
async fn fill_trace(store: &Store) {
    let at = *START + 3_599_000 * MS;
    let named =
        |service: &str, name: &str, kind: &str, duration: i64, row: event_store::SpanRow| {
            event_store::SpanRow {
                service_name: service.to_owned(),
                span_name: name.to_owned(),
                span_kind: kind.to_owned(),
                duration: (duration * MS).unsigned_abs(),
                ..row
            }
        };
    let kernel = |service: &str, own: &str, duration: i64, row| {
        let mut row = named(service, "POST /pay", "Server", duration, row);
        row.scope_name = "weir.collector".into();
        row.status_code = "Error".into();
        row.span_attributes = vec![
            ("weir.service_span_id".to_owned(), own.to_owned()),
            ("http.response.status_code".to_owned(), "502".to_owned()),
        ];
        row
    };
    let spans = [
        kernel("gateway", "a1", 412, span(TRACE, "k1", "", at)),
        named(
            "gateway",
            "POST /pay",
            "Server",
            408,
            span(TRACE, "a1", "", at + 2 * MS),
        ),
        named(
            "gateway",
            "POST orders",
            "Client",
            390,
            span(TRACE, "c1", "a1", at + 9 * MS),
        ),
        kernel("orders", "a2", 380, span(TRACE, "k2", "c1", at + 12 * MS)),
        named(
            "orders",
            "POST /pay",
            "Server",
            376,
            span(TRACE, "a2", "c1", at + 14 * MS),
        ),
        named(
            "orders",
            "charge card",
            "Internal",
            340,
            span(TRACE, "i1", "a2", at + 40 * MS),
        ),
    ];
    store.insert_spans(&spans, "spans").await.unwrap();
}

async fn texts(driver: &WebDriver, selector: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for element in driver.find_all(By::Css(selector)).await.unwrap() {
        texts.push(element.text().await.unwrap());
    }
    texts
}

async fn picture(driver: &WebDriver, name: &str) {
    if let Some(folder) = std::env::var_os("WEIR_SCREENSHOTS") {
        let path = PathBuf::from(folder).join(format!("{name}.png"));
        driver.screenshot(&path).await.unwrap();
    }
}

async fn from_drop_off_to_trace(driver: &WebDriver) {
    assert_eq!(
        texts(driver, ".step-count").await,
        ["100 buyers", "73 buyers", "45 buyers"]
    );
    let leaks = driver.find_all(By::Css("a.leak-text")).await.unwrap();
    assert!(leaks[1].text().await.unwrap().contains("28 left here"));
    leaks[1].click().await.unwrap();
    assert_eq!(texts(driver, "h1").await, ["Reached Cart, never Pay"]);
    assert_eq!(
        texts(driver, "tbody tr").await.len(),
        28,
        "the list is the bar"
    );
    let buyer = driver
        .find(By::XPath("//tr[th='buyer-072']"))
        .await
        .unwrap();
    assert!(buyer.text().await.unwrap().contains("502"));
    picture(driver, "dropped").await;
    buyer
        .find(By::Css("a"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    assert_eq!(texts(driver, "h1").await, ["POST /pay"]);
    let badges = texts(driver, ".waterfall .badge").await;
    assert_eq!(
        badges,
        [
            "kernel", "service", "service", "kernel", "service", "service"
        ],
        "one tree"
    );
    for depth in 0..6 {
        assert_eq!(
            texts(driver, &format!(".wf-name.d{depth}")).await.len(),
            1,
            "each under the one before"
        );
    }
    driver
        .find(By::Css(".waterfall summary"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    assert!(
        texts(driver, "details[open] dd")
            .await
            .contains(&"502".to_owned()),
        "details open without a script"
    );
    picture(driver, "trace").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_on_a_drop_off_reaches_the_trace_and_the_page_follows_the_store() {
    let running = TestStore::start().await;
    fill(&running.store).await;
    let url = serve_console(running.store.clone()).await;
    let browser = Browser::start();

    let driver = browser.open(true).await;
    driver.goto(&url).await.unwrap();
    let address = driver.current_url().await.unwrap();
    assert!(
        address.path() == "/console/funnels/checkout" && address.query().is_none(),
        "the token is not left in {address}"
    );
    driver
        .query(By::Css("#live.on .updated.fresh"))
        .wait(Duration::from_secs(10), Duration::from_millis(50))
        .first()
        .await
        .unwrap();
    picture(&driver, "funnel").await;
    from_drop_off_to_trace(&driver).await;
    driver.goto(address.as_str()).await.unwrap();
    let late = exchange(*START + 3_500_000 * MS, "late", "login");
    running
        .store
        .insert_exchanges(&[late], "late")
        .await
        .unwrap();
    let shown = driver.query(By::XPath("//p[@class='step-count'][contains(., '101')]"));
    shown
        .wait(Duration::from_secs(10), Duration::from_millis(50))
        .first()
        .await
        .expect("the page follows without a reload");
    driver.quit().await.unwrap();

    let without = browser.open(false).await;
    without.goto(&url).await.unwrap();
    assert_eq!(
        texts(&without, ".step-count").await,
        ["101 buyers", "73 buyers", "45 buyers"]
    );
    assert!(
        without
            .find_all(By::Css("#live.on"))
            .await
            .unwrap()
            .is_empty(),
        "no script ran"
    );
    without
        .find(By::Css("a.leak-text"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    assert_eq!(texts(&without, "h1").await, ["Reached Login, never Cart"]);
    without.quit().await.unwrap();
}
