//! The API over a real store: who may see what, the numbers, the files, the traces, and clear errors.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

use std::{sync::LazyLock, time::Duration};

use event_store::{Scope, Store, TenantId};
use funnel_engine::FunnelDefinition;
use jiff::Timestamp;
use report_api::{Access, Funnel, NewToken, Settings, serve};
use reqwest::{Client, Response, StatusCode, redirect::Policy};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot};
use weir_testing::{TestStore, exchange, span};

const SECOND: i64 = 1_000_000_000;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const FUNNEL: &str = r#"{"name":"Login to payment","window":"14d","steps":[{"name":"Login","event":"login"},{"name":"Cart","event":"cart"},{"name":"Pay","event":"pay"}]}"#;

const VISITS: &str = r#"{"name":"Visits","count":"sessions","window":"1h","steps":[{"name":"Login","event":"login"},{"name":"Cart","event":"cart"}]}"#;

/// An hour ago, in whole seconds: the store forgets exchanges after 90 days.
static START: LazyLock<i64> = LazyLock::new(|| (Timestamp::now().as_second() - 3_600) * SECOND);

/// A running API over a store, with a token for the operator and one per shop.
struct Api {
    url: String,
    client: Client,
    operator: String,
    shop1: String,
    shop2: String,
    _stop: oneshot::Sender<()>,
}

impl Api {
    async fn over(store: Store) -> Self {
        let tenant = |name| Scope::Tenant(TenantId::new(name).unwrap());
        let tokens =
            [Scope::Operator, tenant("t1"), tenant("t2")].map(|scope| NewToken::make(&scope));
        let file = std::env::temp_dir().join(format!(
            "weir-tokens-{}-{}",
            std::process::id(),
            weir_testing::free_port()
        ));
        std::fs::write(
            &file,
            tokens
                .iter()
                .map(|token| token.entry.as_str())
                .collect::<String>(),
        )
        .unwrap();
        let access = Access::load(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let funnel = |(slug, json): (&str, &str)| Funnel {
            slug: slug.to_owned(),
            definition: FunnelDefinition::parse(json).unwrap(),
        };
        let funnels = [("checkout", FUNNEL), ("visits", VISITS)];
        let settings = Settings {
            store,
            index: None,
            funnels: funnels.map(funnel).into(),
            access,
            live: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(serve(settings, listener, async move {
            stopped.await.unwrap_or_default();
        }));
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        let [operator, shop1, shop2] = tokens.map(|token| token.token);
        Self {
            url,
            client,
            operator,
            shop1,
            shop2,
            _stop: stop,
        }
    }

    async fn get(&self, path: &str, token: &str) -> Response {
        let request = self.client.get(format!("{}{path}", self.url));
        request.bearer_auth(token).send().await.unwrap()
    }

    async fn json(&self, path: &str, token: &str) -> Value {
        let response = self.get(path, token).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }
}

/// Shop t1: a, b log in, a fills the cart and fails to pay; shop t2: c goes all the way.
async fn fill(store: &Store) {
    let in_trace = |row| event_store::ExchangeRow {
        trace_id: Some(TRACE.to_owned()),
        ..row
    };
    let other = |row| event_store::ExchangeRow {
        tenant_id: Some("t2".to_owned()),
        ..row
    };
    let failed = event_store::ExchangeRow {
        status_code: Some(502),
        route: Some("/pay".to_owned()),
        ..exchange(*START + 9 * SECOND, "a", "pay.failed")
    };
    let rows = [
        exchange(*START, "a", "login"),
        exchange(*START + SECOND, "a", "cart"),
        in_trace(failed),
        exchange(*START + 2 * SECOND, "b", "login"),
        other(exchange(*START, "c", "login")),
        other(exchange(*START + SECOND, "c", "cart")),
        other(exchange(*START + 3 * SECOND, "c", "pay")),
    ];
    store.insert_exchanges(&rows, "exchanges").await.unwrap();
    let mut kernel = span(TRACE, "00000000000000k1", "", *START + 9 * SECOND);
    kernel.scope_name = "weir.collector".into();
    kernel.span_attributes = vec![(
        "weir.service_span_id".to_owned(),
        "00000000000000a1".to_owned(),
    )];
    let service = span(TRACE, "00000000000000a1", "", *START + 9 * SECOND + 1_000);
    let call = span(
        TRACE,
        "00000000000000c1",
        "00000000000000a1",
        *START + 9 * SECOND + 2_000,
    );
    store
        .insert_spans(&[call, service, kernel], "spans")
        .await
        .unwrap();
    // Shop t2 joins t1's trace later, with headers that anyone can send.
    let claimed = event_store::ExchangeRow {
        trace_id: Some(TRACE.to_owned()),
        status_code: Some(401),
        event: None,
        ..other(exchange(*START + 11 * SECOND, "c", "none"))
    };
    store.insert_exchanges(&[claimed], "claimed").await.unwrap();
    // A refused login has no user, and counts as a failed attempt all the same.
    let refused = event_store::ExchangeRow {
        user_id: None,
        status_code: Some(401),
        ..exchange(*START, "nobody", "login.failed")
    };
    store.insert_exchanges(&[refused], "refused").await.unwrap();
}

fn counts(funnel: &Value) -> Vec<u64> {
    let steps = funnel["steps"].as_array().unwrap().iter();
    steps.map(|step| step["count"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_over_a_real_store() {
    let running = TestStore::start().await;
    fill(&running.store).await;
    let api = Api::over(running.store.clone()).await;
    each_token_sees_its_own_shop(&api).await;
    dropped_buyers_lead_to_their_traces(&api).await;
    bars_are_made_of_people_and_say_why(&api).await;
    lists_go_on_where_the_page_before_ended(&api).await;
    lists_of_sessions_name_them(&api).await;
    reports_come_in_every_form(&api).await;
    definitions_and_periods_are_checked(&api).await;
    mistakes_are_told_in_the_form_of_their_address(&api).await;
    a_period_goes_along_from_the_bar_to_the_buyers(&api).await;
    live_pages_follow_the_store(&api, &running.store).await;
    figures_of_the_server_name_no_people(&api).await;
}

async fn each_token_sees_its_own_shop(api: &Api) {
    for (token, expected) in [
        (&api.operator, [3, 2, 1]),
        (&api.shop1, [2, 1, 0]),
        (&api.shop2, [1, 1, 1]),
    ] {
        assert_eq!(
            counts(&api.json("/api/v1/funnels/checkout", token).await),
            expected
        );
    }
    let login = &api.json("/api/v1/funnels/checkout", &api.shop1).await["steps"][0];
    assert_eq!(login["errors"], 1, "the refused login counts");
    let pay = &api.json("/api/v1/funnels/checkout", &api.operator).await["steps"][2];
    assert_eq!(
        (pay["errors"].as_u64(), pay["latency_ms"]["mean"].as_f64()),
        (Some(1), Some(1.0))
    );
    for path in [
        "/api/v1/funnels/checkout",
        "/api/v1/traces/4bf92f3577b34da6a3ce929d0e0e4736",
        "/console/funnels/checkout/live",
        "/api/v1/funnels/checkout/live",
    ] {
        for request in [
            api.client.get(format!("{}{path}", api.url)),
            api.client
                .get(format!("{}{path}", api.url))
                .bearer_auth("guess"),
        ] {
            let refused = request.send().await.unwrap();
            assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path}");
            assert!(refused.headers().contains_key("www-authenticate"));
        }
    }
    // Another shop's trace and one that does not exist cannot be told apart.
    let other = api
        .get(&format!("/api/v1/traces/{TRACE}"), &api.shop2)
        .await;
    let absent = api
        .get(
            "/api/v1/traces/00000000000000000000000000000001",
            &api.shop2,
        )
        .await;
    assert_eq!(
        (other.status(), absent.status()),
        (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND)
    );
    assert_eq!(other.text().await.unwrap(), absent.text().await.unwrap());
}

async fn dropped_buyers_lead_to_their_traces(api: &Api) {
    let list = api
        .json("/api/v1/funnels/checkout/steps/2/dropped", &api.shop1)
        .await;
    let users = list["users"].as_array().unwrap();
    assert_eq!(users.len(), 1);
    let user = &users[0];
    assert_eq!(
        (
            user["user"].as_str(),
            user["last_request"].as_str(),
            user["last_status"].as_u64()
        ),
        (Some("a"), Some("POST /pay"), Some(502)),
        "what they did last, which is more than the step they reached"
    );
    let trace = api
        .json(
            &format!("/api/v1/traces/{}", user["trace_id"].as_str().unwrap()),
            &api.shop1,
        )
        .await;
    let shape: Vec<(u64, &str)> = trace["spans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|span| {
            (
                span["depth"].as_u64().unwrap(),
                span["source"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shape,
        [(0, "kernel"), (1, "service"), (2, "service")],
        "one tree of both kinds"
    );
    assert_eq!(
        api.json("/api/v1/funnels/checkout/steps/1/dropped", &api.shop2)
            .await["users"],
        json!([])
    );
    for path in [
        "/api/v1/funnels/checkout/steps/4/dropped",
        "/api/v1/funnels/nothing",
        "/api/v1/funnels/checkout/live",
    ] {
        assert_eq!(
            api.get(path, &api.operator).await.status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}

async fn lists_go_on_where_the_page_before_ended(api: &Api) {
    let list = "/api/v1/funnels/checkout/steps/1/converted?limit=1";
    let mut after = String::new();
    let mut seen = Vec::new();
    loop {
        let page = api.json(&format!("{list}{after}"), &api.operator).await;
        let users = page["users"].as_array().unwrap();
        assert_eq!(users.len(), 1, "{page}");
        seen.push(users[0]["user"].as_str().unwrap().to_owned());
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ["c", "a"], "those who stopped last first");
    let page = api
        .get(&format!("{list}&after=nowhere"), &api.operator)
        .await;
    assert_eq!(page.status(), StatusCode::BAD_REQUEST);
}

async fn lists_of_sessions_name_them(api: &Api) {
    let list = api
        .json(
            "/api/v1/funnels/visits/steps/1/dropped?limit=5",
            &api.operator,
        )
        .await;
    let users = list["users"].as_array().unwrap();
    assert_eq!((users.len(), &list["next"]), (1, &Value::Null));
    let visit = (users[0]["user"].as_str(), users[0]["session"].as_str());
    assert_eq!(visit, (Some("b"), Some("s-b")));
    assert_eq!(
        users[0]["last_request"], "POST /login",
        "of that session: {list}"
    );
    let page = api
        .get("/console/funnels/visits/steps/1", &api.operator)
        .await;
    let page = page.text().await.unwrap();
    assert!(page.contains("s-b"), "{page}");
}

async fn bars_are_made_of_people_and_say_why(api: &Api) {
    let list = async |path: &str| {
        let answer = api.json(path, &api.shop1).await;
        let users = answer["users"].as_array().unwrap().iter();
        users
            .map(|user| user["user"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let steps = "/api/v1/funnels/checkout/steps";
    assert_eq!(list(&format!("{steps}/1/converted")).await, ["a"]);
    assert_eq!(list(&format!("{steps}/1/dropped")).await.len(), 1);
    let drivers = api.json(&format!("{steps}/1/drivers"), &api.operator).await;
    let sides = ["dropped", "converted"].map(|side| drivers[side]["total"].as_u64().unwrap());
    assert_eq!(sides, [1, 2], "both sides of the first bar");
    let page = api
        .get("/console/funnels/checkout/steps/1/why", &api.operator)
        .await;
    let page = page.text().await.unwrap();
    assert!(page.contains("What sets those who left apart"), "{page}");
    let second = |after: i64| Timestamp::from_second(*START / SECOND + after).unwrap();
    let periods = format!(
        "?from={}&to={}&with_from={}&with_to={}",
        second(-1),
        second(0),
        second(0),
        second(100)
    );
    let compared = api
        .json(
            &format!("/api/v1/funnels/checkout/compare{periods}"),
            &api.operator,
        )
        .await;
    let second = &compared["steps"][1]["from_start"]["second"];
    assert_eq!(
        (second["count"].as_u64(), second["total"].as_u64()),
        (Some(2), Some(3)),
        "{compared}"
    );
}

async fn reports_come_in_every_form(api: &Api) {
    for (extension, kind, magic) in [
        ("pdf", "application/pdf", &b"%PDF"[..]),
        (
            "xlsx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            b"PK",
        ),
        ("html", "text/html", b"<!doctype html>"),
        ("csv", "text/csv", b"step,name,count"),
        ("parquet", "application/vnd.apache.parquet", b"PAR1"),
    ] {
        let response = api
            .get(
                &format!("/api/v1/funnels/checkout/report.{extension}"),
                &api.shop1,
            )
            .await;
        assert_eq!(response.status(), StatusCode::OK, "{extension}");
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert!(header("content-type").starts_with(kind));
        assert!(header("content-disposition").contains(&format!("checkout.{extension}")));
        assert_eq!(header("cache-control"), "private, no-store");
        assert!(
            response.bytes().await.unwrap().starts_with(magic),
            "{extension}"
        );
    }
    let unknown = api
        .get("/api/v1/funnels/checkout/report.docx", &api.shop1)
        .await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
}

async fn definitions_and_periods_are_checked(api: &Api) {
    let run = async |body: &str| {
        let request = api.client.post(format!("{}/api/v1/funnels/run", api.url));
        let response = request
            .bearer_auth(&api.shop1)
            .body(body.to_owned())
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap())
    };
    assert_eq!(counts(&run(FUNNEL).await.1), [2, 1, 0]);
    let bad = FUNNEL.replace("\"14d\"", "\"14d\",\"modes\":[\"strict_order\"]");
    let (status, answer) = run(&bad).await;
    assert_eq!(status, 422);
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("modes: ")
    );
    // What the store cannot answer itself is answered all the same.
    let totals = FUNNEL.replace("\"14d\"", "\"14d\",\"count\":\"totals\"");
    let (status, answer) = run(&totals).await;
    assert_eq!((status, counts(&answer)), (200, vec![2, 1, 0]));
    assert_eq!(answer["backend"], "columnar");
    assert_eq!(
        answer["steps"][0]["errors"], 1,
        "the refused login counts here too"
    );
    let requests = r#"{"name":"requests","window":"14d","breakdown":{"properties":["session"]},
        "trend":{"interval":"hour"},"steps":[{"name":"Login","http":{"route":"/login","method":"POST"}},
        {"name":"Cart","http":{"route":"/cart","status":"2xx"}}]}"#;
    let (status, answer) = run(requests).await;
    assert_eq!((status, counts(&answer)), (200, vec![2, 1]));
    assert_eq!(answer["breakdown"].as_array().unwrap().len(), 2);
    assert_eq!(answer["trend"][0]["entered"], 2);
    assert_eq!(answer["backend"], "clickhouse");
    let second = |after: i64| Timestamp::from_second(*START / SECOND + after).unwrap();
    let period = format!("?from={}&to={}", second(0), second(1));
    assert_eq!(
        counts(
            &api.json(&format!("/api/v1/funnels/checkout{period}"), &api.operator)
                .await
        ),
        [2, 0, 0]
    );
    for wrong in [
        "?from=2026-01-01T00:00:00Z",
        "?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        "?from=yesterday&to=today",
    ] {
        let status = api
            .get(&format!("/api/v1/funnels/checkout{wrong}"), &api.operator)
            .await
            .status();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

async fn mistakes_are_told_in_the_form_of_their_address(api: &Api) {
    for (path, status) in [
        ("/api/v1/funnels/checkout?from=yesterday&to=today", 400),
        ("/api/v1/funnels/checkout/steps/two/dropped", 400),
        ("/api/v1/funnels/checkout/steps/1/dropped?limit=all", 400),
        ("/api/v1/traces/short", 400),
        ("/api/v1/nothing", 404),
    ] {
        let answer = api.get(path, &api.operator).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let problem: Value = answer.json().await.unwrap();
        assert!(problem["error"]["message"].is_string(), "{path}: {problem}");
    }
    let page = api
        .get("/console/funnels/checkout?from=x&to=y", &api.operator)
        .await;
    assert_eq!(page.status(), StatusCode::BAD_REQUEST);
    assert!(page.text().await.unwrap().starts_with("<!doctype html>"));
}

async fn a_period_goes_along_from_the_bar_to_the_buyers(api: &Api) {
    let second = |after: i64| Timestamp::from_second(*START / SECOND + after).unwrap();
    let period = format!("?from={}&to={}", second(0), second(1));
    let page = api
        .get(&format!("/console/funnels/checkout{period}"), &api.operator)
        .await;
    let html = page.text().await.unwrap();
    assert!(html.contains("2 left here"), "{html}");
    let link = html
        .split("href=\"")
        .find(|link| link.contains("/steps/1"))
        .unwrap();
    let link = link
        .split('"')
        .next()
        .unwrap()
        .replace("&amp;", "&")
        .replace("&#38;", "&");
    let list = api.get(&link, &api.operator).await.text().await.unwrap();
    assert!(list.contains("Showing 2 of 2"), "{link}: {list}");
    let json = api
        .json(
            &format!("/api/v1/funnels/checkout/steps/1/dropped{period}"),
            &api.operator,
        )
        .await;
    assert_eq!(json["users"].as_array().unwrap().len(), 2);
}

async fn live_pages_follow_the_store(api: &Api, store: &Store) {
    let mut live = api.get("/console/funnels/checkout/live", &api.shop1).await;
    assert!(
        live.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/event-stream")
    );
    let mut read_until = async |wanted: &str| {
        let mut text = String::new();
        // To the end of the event: it may come in several pieces.
        while !(text.contains(wanted) && text.ends_with("\n\n")) {
            let chunk = tokio::time::timeout(Duration::from_secs(20), live.chunk()).await;
            text.push_str(&String::from_utf8_lossy(&chunk.unwrap().unwrap().unwrap()));
        }
        text
    };
    read_until("1 left here").await;
    store
        .insert_exchanges(&[exchange(*START + 20 * SECOND, "d", "login")], "later")
        .await
        .unwrap();
    let changed = read_until("2 left here").await;
    assert!(
        changed
            .lines()
            .all(|line| line.is_empty() || line.starts_with("data:") || line.starts_with(':'))
    );
}

async fn figures_of_the_server_name_no_people(api: &Api) {
    let metrics = api
        .client
        .get(format!("{}/metrics", api.url))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        metrics.contains(r#"route="/api/v1/funnels/{slug}",status_class="2xx""#),
        "{metrics}"
    );
    assert!(metrics.ends_with("# EOF\n"));
    for secret in ["t1", "\"a\"", TRACE, &api.operator] {
        assert!(!metrics.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_said_so() {
    let nowhere = format!("http://127.0.0.1:{}", weir_testing::free_port());
    let api = Api::over(Store::at(&nowhere)).await;
    let answer = api.get("/api/v1/funnels/checkout", &api.operator).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let text = answer.text().await.unwrap();
    assert!(
        text.contains("the log of report-api says why") && !text.contains(&nowhere),
        "{text}"
    );
    let page = api.get("/console/funnels/checkout", &api.operator).await;
    assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        page.text()
            .await
            .unwrap()
            .contains("The store does not answer")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_sets_a_cookie_that_scripts_cannot_read_and_leads_on() {
    let api = Api::over(Store::at("http://127.0.0.1:1")).await;
    let outside = api
        .client
        .get(format!("{}/console/traces/{TRACE}?x=1", api.url))
        .send()
        .await
        .unwrap();
    assert_eq!(outside.status(), StatusCode::SEE_OTHER);
    let login = outside.headers()["location"].to_str().unwrap().to_owned();
    assert!(login.starts_with("/login?next="), "{login}");
    let sign_in = async |token: &str| {
        let request = api.client.post(format!("{}{login}", api.url));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(format!("token={token}")).send().await.unwrap()
    };
    let refused = sign_in("guess").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(!refused.headers().contains_key("set-cookie"));
    assert!(
        refused
            .text()
            .await
            .unwrap()
            .contains("This token opens nothing")
    );
    let welcomed = sign_in(&api.shop1).await;
    assert_eq!(
        welcomed.headers()["location"],
        format!("/console/traces/{TRACE}?x=1").as_str()
    );
    let cookie = welcomed.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"),
        "{cookie}"
    );
    let inside = api
        .client
        .get(format!("{}/api/v1/funnels", api.url))
        .header("cookie", cookie.split(';').next().unwrap());
    assert_eq!(inside.send().await.unwrap().status(), StatusCode::OK);
    let page = api
        .client
        .get(format!("{}/login", api.url))
        .send()
        .await
        .unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
}
