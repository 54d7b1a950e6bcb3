//! Planted secrets: traffic that carries one in every place there is, and every byte that the collector gives out
//! searched for every one of them, as written and in other writings. The recording, which is raw by design, is the proof
//! that each was on the wire and that the search can find it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "helpers of tests fail the test"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use weir_testing::{free_port, wait_until};

/// Of the store; it must not appear anywhere either.
const PASSWORD: &str = "geheim-4711";
const ANNA: &str = "raw-user-anna-8841";
const BERTA: &str = "raw-user-berta-2207";
const VISIT: &str = "raw-session-c3f1a9";

/// What each side says in turn over one connection: the client, then the server.
type Talk = Vec<(Vec<u8>, Vec<u8>)>;

/// Something that must not come out, and where it was put.
struct Secret {
    place: String,
    text: String,
}

/// What goes over the wire.
#[derive(Default)]
struct Traffic {
    secrets: Vec<Secret>,
    talks: Vec<Talk>,
}

impl Traffic {
    /// Remembers a secret of a given look.
    fn secret(&mut self, place: &str, text: &str) -> String {
        self.secrets.push(Secret {
            place: place.to_owned(),
            text: text.to_owned(),
        });
        text.to_owned()
    }

    /// A secret without any look, which only not keeping its field keeps in.
    fn hidden(&mut self, place: &str) -> String {
        let text = format!("Hidden{:02}{}", self.secrets.len(), place.replace(' ', ""));
        self.secret(place, &text)
    }

    /// A token about a user; neither it nor its parts may come out.
    fn token(&mut self, place: &str, user: &str) -> String {
        let signature = self.hidden(&format!("signature of {place}"));
        let claims = json!({ "sub": user, "email": "jwt.planted@mail.example" });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let payload = self.secret(&format!("payload of {place}"), &part(&claims));
        let head = part(&json!({ "alg": "HS256", "typ": "JWT" }));
        format!("{head}.{payload}.{signature}")
    }

    fn one(&mut self, says: impl Into<Vec<u8>>, answer: impl Into<Vec<u8>>) {
        self.talks.push(vec![(says.into(), answer.into())]);
    }
}

fn message(first: &str, fields: &[(&str, &str)], body: &str) -> String {
    let fields = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let fields: String = fields.collect();
    format!(
        "{first}\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ok() -> String {
    message("HTTP/1.1 200 OK", &[], "")
}

fn plant() -> Traffic {
    let mut traffic = Traffic::default();
    for (place, text) in [
        ("user id", ANNA),
        ("other user id", BERTA),
        ("session id", VISIT),
        ("e-mail in a token", "jwt.planted@mail.example"),
        ("password of the store", PASSWORD),
    ] {
        traffic.secret(place, text);
    }
    plant_payments(&mut traffic);
    plant_logins(&mut traffic);
    plant_paths(&mut traffic);
    plant_bodies(&mut traffic);
    plant_broken_heads(&mut traffic);
    plant_tunnel(&mut traffic);
    traffic
}

/// Everything at once, as a shop's checkout has it; these name the users.
fn plant_payments(traffic: &mut Traffic) {
    let buyers = [
        ("lamps", ANNA),
        ("lamps", ANNA),
        ("boots", ANNA),
        ("lamps", BERTA),
    ];
    for (visit, (tenant, user)) in buyers.into_iter().enumerate() {
        let mut hidden = |place: &str| traffic.hidden(&format!("{place} of payment {visit}"));
        let (password, grant, unnamed) = (
            hidden("password in the query"),
            hidden("token in the query"),
            hidden("cookie"),
        );
        let (bearer, key, private) = (
            hidden("bearer"),
            hidden("x-api-key"),
            hidden("header not on the list"),
        );
        let (agent, answered, place) = (
            hidden("user-agent"),
            hidden("set-cookie"),
            hidden("location"),
        );
        let (state, page) = (hidden("tracestate"), hidden("referer"));
        let in_body = (hidden("request body"), hidden("response body"));
        let card = traffic.secret("card in the query", "4111111111111111");
        let noted = traffic.secret("card in a header on the list", "5555 5555 5555 4444");
        let themed = traffic.secret("card in a cookie on the list", "378282246310005");
        let asked = traffic.secret(
            "e-mail in a parameter on the list",
            "query.planted@mail.example",
        );
        let mail = asked.replace('@', "%40");
        let token = traffic.token("x-auth-token", user);
        let request = message(
            &format!(
                "POST /pay?password={password}&card={card}&q=red+lamp&mail={mail}&access_token={grant} HTTP/1.1"
            ),
            &[
                ("Host", "shop.example"),
                ("X-Tenant-ID", tenant),
                ("X-Auth-Token", &token),
                ("Authorization", &format!("Bearer {bearer}")),
                (
                    "Cookie",
                    &format!("session_id={VISIT}; theme=dark-{themed}; other={unnamed}"),
                ),
                ("X-Api-Key", &key),
                ("X-Note", &format!("paid with {noted}, thanks")),
                ("X-Private", &private),
                ("User-Agent", &agent),
                ("Referer", &format!("https://shop.example/?page={page}")),
                ("traceparent", &format!("00-{state}-00f067aa0ba902b7-01")),
                ("tracestate", &state),
            ],
            &json!({ "card": "4000056655665556", "password": in_body.0 }).to_string(),
        );
        let answer = message(
            "HTTP/1.1 200 OK",
            &[
                ("Set-Cookie", &format!("session_id={answered}; HttpOnly")),
                ("Location", &place),
            ],
            &in_body.1,
        );
        traffic.one(request, answer);
    }
    traffic.secret("card in a body", "4000056655665556");
}

/// Who logs in is told by the response; credentials go along in every way.
fn plant_logins(traffic: &mut Traffic) {
    let (password, token) = (
        traffic.hidden("basic password"),
        traffic.token("response token", ANNA),
    );
    let basic = STANDARD_NO_PAD.encode(format!("anna:{password}"));
    let fields = [
        ("Host", "shop.example"),
        ("X-Tenant-ID", "lamps"),
        ("Authorization", &format!("Basic {basic}")),
        ("Proxy-Authorization", &format!("Basic {basic}")),
    ];
    let hint = traffic.hidden("early hint");
    let early = format!("HTTP/1.1 103 Early Hints\r\nLink: </?token={hint}>; rel=preload\r\n\r\n");
    let answer = message("HTTP/1.1 200 OK", &[("X-Auth-Token", &token)], "");
    traffic.one(
        message("POST /login HTTP/1.1", &fields, ""),
        early + &answer,
    );
    let shopkeeper = traffic.secret("e-mail as tenant", "tenant.planted@mail.example");
    let fields = [
        ("Host", "shop.example"),
        ("X-Tenant-ID", shopkeeper.as_str()),
    ];
    traffic.one(message("GET /tenant HTTP/1.1", &fields, ""), ok());
}

fn plant_paths(traffic: &mut Traffic) {
    let card = traffic.secret("card in the path", "4012888888881881");
    let grouped = traffic.secret("grouped card in the path", "6011-1111-1111-1117");
    let spaced = traffic
        .secret("encoded card in the path", "3530 1113 3330 0000")
        .replace(' ', "%20");
    let mail = traffic.secret("e-mail in the path", "path.planted@mail.example");
    let encoded = traffic
        .secret("encoded e-mail in the path", "other.planted@mail.example")
        .replace('@', "%40");
    let token = traffic.token("path", ANNA);
    let key = traffic.secret("key in the path", "sk_live_4eC39HqLyjWDplanted");
    let bearer = traffic.hidden("bearer in the path");
    let long = traffic.secret("card where the path is cut", "5105105105105100");
    let user = traffic.hidden("user part of an absolute target");
    let paths = [
        format!("/cards/{card}/edit"),
        format!("/grouped/{grouped}"),
        format!("/spaced/{spaced}/x"),
        format!("/users/{mail}/orders"),
        format!("/encoded/{encoded}/orders"),
        format!("/auth/{token}"),
        format!("/keys/{key}"),
        format!("/bearer/Bearer%20{bearer}"),
        format!("/{}{long}", "long/".repeat(408)),
        format!("http://anna:{user}@shop.example/absolute"),
        format!("/fragment#access_token={}", traffic.hidden("fragment")),
    ];
    for path in paths {
        let first = format!("GET {path} HTTP/1.1");
        traffic.one(message(&first, &[("Host", "shop.example")], ""), ok());
    }
    let host = traffic.secret("key in the host", "sk_test_51HplantedInHost");
    let host = format!("{host}.example:8080");
    traffic.one(message("GET /host HTTP/1.1", &[("Host", &host)], ""), ok());
    let method = traffic.secret("key as method", "sk_live_plantedAsMethod");
    let first = format!("{method} /method HTTP/1.1");
    traffic.one(message(&first, &[("Host", "shop.example")], ""), ok());
}

/// Bodies and trailers in chunks, and a body that never ends.
fn plant_bodies(traffic: &mut Traffic) {
    let mut chunked = |first: &str, side: &str| {
        let (body, trailer) = (
            traffic.hidden(&format!("chunk of a {side}")),
            traffic.hidden(&format!("trailer of a {side}")),
        );
        let extension = traffic.hidden(&format!("chunk extension of a {side}"));
        format!(
            "{first}\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\nTrailer: X-Token\r\n\r\n\
             {:x};note={extension}\r\n{body}\r\n0\r\nX-Token: {trailer}\r\n\r\n",
            body.len()
        )
    };
    let request = chunked("POST /chunked HTTP/1.1", "request");
    let answer = chunked("HTTP/1.1 200 OK", "response");
    traffic.one(request, answer);
    let half = traffic.hidden("body of an aborted request");
    let request = format!(
        "POST /aborted HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 9999\r\n\r\n{half}"
    );
    traffic.one(request, "");
}

/// Whatever goes wrong while reading a head, it is not quoted.
fn plant_broken_heads(traffic: &mut Traffic) {
    let heads = [
        (
            "a line that is no field",
            "GET /broken HTTP/1.1\r\nAuthorization Bearer SECRET\r\n\r\n",
        ),
        (
            "a field name that is none",
            "GET /broken HTTP/1.1\r\nX Token\u{7f}: SECRET\r\n\r\n",
        ),
        (
            "a version that is none",
            "GET /broken?token=SECRET HTTP/9.x\r\n\r\n",
        ),
        (
            "a target that is none",
            "GET /broken SECRET HTTP/1.1\r\n\r\n",
        ),
        ("what is no HTTP", "hello, SECRET is my password\r\n\r\n"),
        (
            "a head that does not end",
            "GET /broken HTTP/1.1\r\nAuthorization: Bearer SECRET\r\nX-Half",
        ),
    ];
    for (place, head) in heads {
        let secret = traffic.hidden(place);
        let answer = format!(
            "HTTP/1.1 400 {}\r\n\r\n",
            traffic.hidden(&format!("reason after {place}"))
        );
        traffic.one(head.replace("SECRET", &secret), answer);
    }
    let secret = traffic.hidden("a status line that is none");
    let request = message(
        "GET /broken-answer HTTP/1.1",
        &[("Host", "shop.example")],
        "",
    );
    traffic.one(
        request,
        format!("HTTP/1.1 2x0 {secret}\r\nSet-Cookie: {secret}\r\n\r\n"),
    );
    let secret = traffic.hidden("an oversized head");
    let padding = "p".repeat(70_000);
    let request = format!(
        "GET /oversized?token={secret} HTTP/1.1\r\nCookie: {secret}\r\nX-Padding: {padding}\r\n\r\n"
    );
    traffic.one(request, ok());
}

/// After the upgrade it is no HTTP, even where it looks like it.
fn plant_tunnel(traffic: &mut Traffic) {
    let upgrade = "GET /socket HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let accepted =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (up, down) = (
        traffic.hidden("tunnel to the server"),
        traffic.hidden("tunnel to the client"),
    );
    let request = format!("GET /tunnelled/{up} HTTP/1.1\r\nHost: {up}\r\n\r\n");
    let answer = format!("HTTP/1.1 200 OK\r\nSet-Cookie: {down}\r\nContent-Length: 0\r\n\r\n");
    traffic.talks.push(vec![
        (upgrade.into(), accepted.into()),
        (request.into(), answer.into()),
    ]);
}

/// Says everything over real connections, one after the other. The server knows nothing of HTTP.
fn speak(listener: &TcpListener, talks: &[Talk]) {
    for talk in talks {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        for (says, answer) in talk {
            pass(&mut client, &mut server, says);
            pass(&mut server, &mut client, answer);
        }
    }
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    thread::scope(|scope| {
        scope.spawn(|| from.write_all(bytes).unwrap());
        to.read_exact(&mut vec![0; bytes.len()]).unwrap();
    });
}

/// Ways in which a text could come out. Base64 of a longer text holds one of three writings of its parts.
fn writings(text: &str) -> Vec<(&'static str, String)> {
    let percent = |keep: fn(u8) -> bool, upper: bool| -> String {
        let write = |byte: u8| match (keep(byte), upper) {
            (true, _) => char::from(byte).to_string(),
            (false, true) => format!("%{byte:02X}"),
            (false, false) => format!("%{byte:02x}"),
        };
        text.bytes().map(write).collect()
    };
    let hex = |digit: fn(u8) -> String| -> String { text.bytes().map(digit).collect() };
    let mut all = vec![
        ("as it is", text.to_owned()),
        ("in lower case", text.to_lowercase()),
        (
            "percent-encoded",
            percent(
                |byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte),
                true,
            ),
        ),
        ("percent-encoded", percent(|_| false, true)),
        ("percent-encoded", percent(|_| false, false)),
        ("in hexadecimal", hex(|byte| format!("{byte:02x}"))),
        ("in hexadecimal", hex(|byte| format!("{byte:02X}"))),
    ];
    for shift in 0..3 {
        let shifted = [&[0; 2][..shift], text.as_bytes()].concat();
        let (first, end) = ((shift * 8).div_ceil(6), shifted.len() * 8 / 6);
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            all.push(("in base64", engine.encode(&shifted)[first..end].to_owned()));
        }
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if digits.len() >= 13
        && text
            .chars()
            .all(|letter| letter.is_ascii_digit() || " -".contains(letter))
    {
        let groups: Vec<&str> = (0..digits.len())
            .step_by(4)
            .map(|at| &digits[at..digits.len().min(at + 4)])
            .collect();
        all.extend([" ", "-", "+", "%20"].map(|between| ("in groups", groups.join(between))));
        all.push(("in one piece", digits));
    }
    all
}

/// Each secret that a text holds, and how it is written there.
fn found<'a>(secrets: &'a [Secret], bytes: &[u8]) -> BTreeMap<&'a str, &'static str> {
    let text = String::from_utf8_lossy(bytes);
    let way = |secret: &Secret| {
        writings(&secret.text)
            .into_iter()
            .find(|(_, written)| text.contains(written.as_str()))
    };
    secrets
        .iter()
        .filter_map(|secret| Some((secret.place.as_str(), way(secret)?.0)))
        .collect()
}

/// Fails with every secret and the output that it came out of.
fn assert_clean(secrets: &[Secret], outputs: &[(&str, Vec<u8>)]) {
    let mut leaks = Vec::new();
    for (output, bytes) in outputs {
        assert!(!bytes.is_empty(), "there is no {output} to look into");
        for (place, writing) in found(secrets, bytes) {
            leaks.push(format!("{place} x {output} ({writing})"));
        }
    }
    assert!(
        leaks.is_empty(),
        "{} leaks:\n{}",
        leaks.len(),
        leaks.join("\n")
    );
}

/// A process that is ended with the test.
struct Ended(Child);

impl Ended {
    fn terminate(&mut self) -> bool {
        Command::new("kill")
            .args(["-TERM", &self.0.id().to_string()])
            .status()
            .unwrap();
        self.0.wait().unwrap().success()
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.terminate();
        }
    }
}

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
