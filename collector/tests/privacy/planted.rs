//! The traffic that carries the secrets, and how it is spoken.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use crate::search::Secret;

/// Of the store; it must not appear anywhere either.
pub(crate) const PASSWORD: &str = "geheim-4711";
pub(crate) const ANNA: &str = "raw-user-anna-8841";
pub(crate) const BERTA: &str = "raw-user-berta-2207";
pub(crate) const VISIT: &str = "raw-session-c3f1a9";

/// What each side says in turn over one connection: the client, then the server.
pub(crate) type Talk = Vec<(Vec<u8>, Vec<u8>)>;

/// What goes over the wire.
#[derive(Default)]
pub(crate) struct Traffic {
    pub(crate) secrets: Vec<Secret>,
    pub(crate) talks: Vec<Talk>,
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

pub(crate) fn plant() -> Traffic {
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
pub(crate) fn speak(listener: &TcpListener, talks: &[Talk]) {
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
