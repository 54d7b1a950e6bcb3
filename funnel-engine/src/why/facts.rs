//! What can be held against a drop-off: the facts about a subject at a step and between that step and the next.
//!
//! This is the meaning; [`statement`](super::statement) says the same in SQL, and a test holds the two together.
//! Refuses: judging. A fact is something that was seen, not a cause.
//!
//! How trouble shows in what the collector writes: a request that a rule names and that did not get the status it
//! should is the event `<event>.failed` (`pay.failed`); a declined payment is a status 402, and an out of stock a status
//! 409, both at the service that refused and at the door that passed the refusal on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An event whose last word is one of these is a lack of stock, and so is an attribute `outcome` of that text.
pub(super) const OUT_OF_STOCK: &[&str] = &["out_of_stock"];
/// Likewise for payments.
pub(super) const DECLINED: &[&str] = &["declined", "payment_declined"];
/// A status 409 is a lack of stock if the route or the event holds one of these words, whole (`/cart/{id}`,
/// `pay.failed`). Elsewhere it is a conflict of another kind.
pub(super) const STOCK_WORDS: &[&str] = &[
    "basket",
    "baskets",
    "cart",
    "carts",
    "checkout",
    "deductions",
    "inventory",
    "order",
    "orders",
    "pay",
    "payment",
    "payments",
    "purchase",
    "purchases",
    "reservation",
    "reservations",
    "stock",
];
/// Attributes that the collector adds for tracing; they say nothing of the user.
pub(super) const IGNORED_PROPERTIES: &[&str] = &[
    "client_pid",
    "service_span_id",
    "stitch_candidates",
    "stitch_confidence",
    "stitched_by",
];
/// Longer names and values are cut to this many characters.
pub(super) const TEXT_CHARS_MAX: usize = 200;

/// A band of request durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// In keys.
    pub key: &'static str,
    /// For people.
    pub words: &'static str,
    /// Shortest duration in it, nanoseconds; the band ends just before the next one begins.
    pub from_ns: u64,
}

/// The bands, fastest first: `[0, 100)`, `[100, 300)`, `[300, 1000)`, `[1000, 3000)` and `[3000, ..)` milliseconds.
pub const BANDS: [Band; 5] = [
    band("0-100ms", "under 100 ms", 0),
    band("100-300ms", "100 to 300 ms", 100),
    band("300-1000ms", "300 ms to 1 s", 300),
    band("1-3s", "1 to 3 s", 1_000),
    band("3s-", "3 s or more", 3_000),
];

/// From here on a request is slow enough to be named by its route, nanoseconds.
pub(super) const SLOW_NS: u64 = 1_000_000_000;

const fn band(key: &'static str, words: &'static str, from_ms: u64) -> Band {
    Band {
        key,
        words,
        from_ns: from_ms * 1_000_000,
    }
}

/// The band of a duration in nanoseconds; 0 means that it is not known.
pub fn band_of(duration_ns: u64) -> Option<&'static Band> {
    let mut slowest_first = BANDS.iter().rev();
    slowest_first.find(|band| duration_ns > 0 && duration_ns >= band.from_ns)
}

/// The sorts of facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactKind {
    /// A property of the event that filled the step.
    Property,
    /// How long the step's own request took.
    StepLatency,
    /// An event `<event>.failed` after the step.
    Failed,
    /// A request after the step that was answered with 4xx or 5xx, or aborted.
    Error,
    /// How long requests after the step took: the slowest of all, or a slow one by its route.
    Latency,
    /// Something was out of stock.
    OutOfStock,
    /// A payment was declined.
    PaymentDeclined,
}

impl FactKind {
    /// All of them, in the order of their codes in SQL, which count from 1.
    pub(super) const ALL: [Self; 7] = [
        Self::Property,
        Self::StepLatency,
        Self::Failed,
        Self::Error,
        Self::Latency,
        Self::OutOfStock,
        Self::PaymentDeclined,
    ];

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// As in keys and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Property => "property",
            Self::StepLatency => "step_latency",
            Self::Failed => "failed",
            Self::Error => "error",
            Self::Latency => "latency",
            Self::OutOfStock => "out_of_stock",
            Self::PaymentDeclined => "payment_declined",
        }
    }

    /// Whether it belongs to the step itself. The others happen after it: the longer one looks, the more of them one
    /// sees.
    pub const fn is_of_step(self) -> bool {
        matches!(self, Self::Property | Self::StepLatency)
    }
}

/// Something seen about a subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fact {
    /// Its sort.
    pub kind: FactKind,
    /// Property, event, or `service METHOD route`; empty where the kind says all.
    pub name: String,
    /// The property's value, the band's key, `4xx`, `5xx` or `aborted`; empty where the name says all.
    pub value: String,
    /// Stands for all values of the property but the most frequent ones.
    pub is_rest: bool,
}

impl Fact {
    /// A fact; name and value are cut to 200 characters.
    pub fn new(kind: FactKind, name: &str, value: &str) -> Self {
        let cut = |text: &str| text.chars().take(TEXT_CHARS_MAX).collect();
        Self {
            kind,
            name: cut(name),
            value: cut(value),
            is_rest: false,
        }
    }

    /// For machines: `kind`, `kind:name`, `kind:value` or `kind:name=value`, unique, with `%`, `=` and `*` in name and value as
    /// `%25`, `%3D` and `%2A`; the rest of a property's values is `*`.
    pub fn key(&self) -> String {
        let escaped = |text: &str| {
            text.replace('%', "%25")
                .replace('=', "%3D")
                .replace('*', "%2A")
        };
        let (kind, name) = (self.kind.as_str(), escaped(&self.name));
        let value = if self.is_rest {
            "*".to_owned()
        } else {
            escaped(&self.value)
        };
        match (name.as_str(), value.as_str()) {
            ("", "") => kind.to_owned(),
            (name, "") => format!("{kind}:{name}"),
            ("", value) => format!("{kind}:={value}"),
            (name, value) => format!("{kind}:{name}={value}"),
        }
    }

    /// For people.
    pub fn label(&self) -> String {
        let took = || {
            BANDS
                .iter()
                .find(|band| band.key == self.value)
                .map_or("?", |band| band.words)
        };
        let name = if self.name.is_empty() {
            "a request"
        } else {
            &self.name
        };
        match self.kind {
            FactKind::Property if self.is_rest => format!("{name} is one of its rarer values"),
            FactKind::Property => format!("{name} = {}", self.value),
            FactKind::StepLatency => format!("the step's request took {}", took()),
            FactKind::Failed => {
                let attempted = name.strip_suffix(".failed").unwrap_or(name);
                format!("an attempt at {attempted} failed")
            }
            FactKind::Error if self.value == "aborted" => format!("{name} was aborted"),
            FactKind::Error => format!("{name} answered {}", self.value),
            FactKind::Latency if self.name.is_empty() => {
                format!("the slowest request afterwards took {}", took())
            }
            FactKind::Latency => format!("{name} took {}", took()),
            FactKind::OutOfStock => "out of stock".to_owned(),
            FactKind::PaymentDeclined => "payment declined".to_owned(),
        }
    }
}

/// An event or exchange of a user, as far as facts are made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// Name of the business event, if it is one.
    pub event: Option<String>,
    /// The request, where it is known.
    pub request: Option<Request>,
    /// Status of the answer.
    pub status: Option<u16>,
    /// How long it took; 0 when not known.
    pub duration_ns: u64,
    /// Properties of the event, attributes of the exchange. Empty ones count as not set.
    pub properties: Vec<(String, String)>,
}

/// What was asked, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Who served it.
    pub service: Option<String>,
    /// Method.
    pub method: Option<String>,
    /// Template of the path.
    pub route: Option<String>,
    /// `ok`, `error`, `aborted` or `truncated`.
    pub outcome: String,
}

impl Request {
    /// `service METHOD route`, without what is not known.
    fn name(&self) -> String {
        let parts = [&self.service, &self.method, &self.route];
        let known = parts.into_iter().flatten().map(String::as_str);
        known
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The facts about a subject: of the step itself from what fills it (`is_step`) at `reached_at_ns`, and of what
/// came later, up to and with `ends_at_ns`. Each once, sorted.
pub fn facts_of(
    observed: &[Observed],
    is_step: impl Fn(&Observed) -> bool,
    reached_at_ns: i64,
    ends_at_ns: i64,
) -> Vec<Fact> {
    let at_step = |seen: &&Observed| seen.at_ns == reached_at_ns && is_step(seen);
    let later = |seen: &&Observed| seen.at_ns > reached_at_ns && seen.at_ns <= ends_at_ns;
    let steps: Vec<&Observed> = observed.iter().filter(at_step).collect();
    let mut facts = properties(&steps);
    let slowest = steps
        .iter()
        .map(|seen| seen.duration_ns)
        .max()
        .and_then(band_of);
    facts.extend(slowest.map(|band| Fact::new(FactKind::StepLatency, "", band.key)));
    let between = observed.iter().filter(later);
    let slowest = between.clone().map(|seen| seen.duration_ns).max();
    let slowest = slowest.and_then(band_of);
    facts.extend(slowest.map(|band| Fact::new(FactKind::Latency, "", band.key)));
    facts.extend(between.flat_map(trouble));
    facts.sort_unstable();
    facts.dedup();
    facts
}

/// One value per property: where several events fill the step at one instant, the smallest.
fn properties(steps: &[&Observed]) -> Vec<Fact> {
    let mut least = BTreeMap::<String, String>::new();
    for seen in steps {
        for (name, value) in step_properties(seen) {
            if value.is_empty() || IGNORED_PROPERTIES.contains(&name.as_str()) {
                continue;
            }
            let slot = least.entry(name).or_insert_with(|| value.clone());
            if value < *slot {
                *slot = value;
            }
        }
    }
    let facts = least.iter();
    facts
        .map(|(name, value)| Fact::new(FactKind::Property, name, value))
        .collect()
}

/// The event's own properties, and over them those that every exchange has.
fn step_properties(seen: &Observed) -> BTreeMap<String, String> {
    let mut all: BTreeMap<_, _> = seen.properties.iter().cloned().collect();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            all.insert(name.to_owned(), value);
        }
    };
    put("status_code", seen.status.map(|status| status.to_string()));
    if let Some(request) = &seen.request {
        put("route", request.route.clone());
        put("method", request.method.clone());
        put("service", request.service.clone());
    }
    all
}

/// What went wrong or was slow with one thing seen after the step.
fn trouble(seen: &Observed) -> Vec<Fact> {
    let mut facts = Vec::new();
    let event = seen.event.as_deref().unwrap_or_default();
    if event.ends_with(crate::service::FAILED_SUFFIX) {
        facts.push(Fact::new(FactKind::Failed, event, ""));
    }
    let last_word = event.rsplit('.').next().unwrap_or_default();
    let outcome = seen.properties.iter().find(|(name, _)| name == "outcome");
    let outcome = outcome.map_or("", |(_, value)| value);
    let says = |words: &[&str]| words.contains(&last_word) || words.contains(&outcome);
    if says(OUT_OF_STOCK) || (seen.status == Some(409) && is_about_stock(seen)) {
        facts.push(Fact::new(FactKind::OutOfStock, "", ""));
    }
    if says(DECLINED) || seen.status == Some(402) {
        facts.push(Fact::new(FactKind::PaymentDeclined, "", ""));
    }
    if let Some(request) = &seen.request {
        let name = request.name();
        let went_wrong = match seen.status {
            _ if request.outcome == "aborted" => Some("aborted"),
            Some(400..500) => Some("4xx"),
            Some(500..600) => Some("5xx"),
            _ => None,
        };
        facts.extend(went_wrong.map(|how| Fact::new(FactKind::Error, &name, how)));
        let slow =
            band_of(seen.duration_ns).filter(|band| band.from_ns >= SLOW_NS && !name.is_empty());
        facts.extend(slow.map(|band| Fact::new(FactKind::Latency, &name, band.key)));
    }
    facts
}

fn is_about_stock(seen: &Observed) -> bool {
    let route = seen
        .request
        .as_ref()
        .and_then(|request| request.route.as_deref());
    let texts = [route, seen.event.as_deref()];
    texts.into_iter().flatten().any(|text| {
        let text = text.to_ascii_lowercase();
        let mut words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
        words.any(|word| STOCK_WORDS.contains(&word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<String> {
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn request(at_ns: i64, route: &str, status: u16, ms: u64) -> Observed {
        Observed {
            at_ns,
            event: None,
            request: Some(Request {
                service: text("gateway"),
                method: text("POST"),
                route: text(route),
                outcome: "ok".to_owned(),
            }),
            status: Some(status),
            duration_ns: ms * 1_000_000,
            properties: Vec::new(),
        }
    }

    fn keys(observed: &[Observed]) -> Vec<String> {
        let facts = facts_of(observed, |_| true, 0, 1_000);
        facts.iter().map(Fact::key).collect()
    }

    #[test]
    fn bands_begin_at_their_edge() {
        let edges = [
            99_999_999,
            100_000_000,
            299_999_999,
            300_000_000,
            999_999_999,
            1_000_000_000,
            2_999_999_999,
            3_000_000_000,
        ];
        let shown = edges.map(|ns| band_of(ns).unwrap().key);
        assert_eq!(
            shown,
            [
                "0-100ms",
                "100-300ms",
                "100-300ms",
                "300-1000ms",
                "300-1000ms",
                "1-3s",
                "1-3s",
                "3s-"
            ]
        );
        assert_eq!(band_of(0), None);
        assert_eq!(band_of(u64::MAX).unwrap().words, "3 s or more");
    }

    #[test]
    fn the_step_tells_its_properties_and_its_latency() {
        let mut step = request(0, "/cart", 201, 120);
        step.properties = [("device", "mobile"), ("channel", ""), ("client_pid", "7")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        let facts = facts_of(&[step], |_| true, 0, 1_000);
        let shown: Vec<String> = facts.iter().map(Fact::key).collect();
        assert_eq!(
            shown,
            [
                "property:device=mobile",
                "property:method=POST",
                "property:route=/cart",
                "property:service=gateway",
                "property:status_code=201",
                "step_latency:=100-300ms",
            ]
        );
        assert_eq!(facts[0].label(), "device = mobile");
        assert_eq!(facts[5].label(), "the step's request took 100 to 300 ms");
    }

    /// What the shop's own refusals look like: a stock that is short is a 409 at inventory and at the door, a declined card a 402.
    #[test]
    fn trouble_between_the_steps_is_named_by_where_it_was() {
        let declined = Observed {
            event: text("pay.failed"),
            ..request(5, "/pay", 402, 40)
        };
        assert_eq!(
            keys(&[declined]),
            [
                "failed:pay.failed",
                "error:gateway POST /pay=4xx",
                "latency:=0-100ms",
                "payment_declined"
            ]
        );
        let short = [
            request(6, "/deductions", 409, 3),
            request(5, "/accounts/{id}", 409, 3_500),
        ];
        assert_eq!(
            keys(&short),
            [
                "error:gateway POST /accounts/{id}=4xx",
                "error:gateway POST /deductions=4xx",
                "latency:=3s-",
                "latency:gateway POST /accounts/{id}=3s-",
                "out_of_stock",
            ]
        );
        assert_eq!(
            keys(&[request(6, "/accounts", 409, 0)]),
            ["error:gateway POST /accounts=4xx"]
        );
        let named = |event: &str| Observed {
            at_ns: 7,
            event: text(event),
            ..Observed::default()
        };
        assert_eq!(keys(&[named("cart.out_of_stock")]), ["out_of_stock"]);
        assert_eq!(keys(&[named("declined")]), ["payment_declined"]);
        assert!(keys(&[named("pay")]).is_empty());
        let told = Observed {
            properties: vec![("outcome".to_owned(), "declined".to_owned())],
            ..named("pay.failed")
        };
        assert_eq!(keys(&[told]), ["failed:pay.failed", "payment_declined"]);
        let mut cut = request(8, "/pay", 200, 5);
        cut.request.as_mut().unwrap().outcome = "aborted".to_owned();
        assert_eq!(keys(&[cut])[0], "error:gateway POST /pay=aborted");
    }

    #[test]
    fn only_what_was_seen_in_time_counts_and_each_once() {
        let broken = |at_ns| request(at_ns, "/pay", 502, 10);
        assert!(keys(&[broken(1_001)]).is_empty());
        let twice = keys(&[broken(1), broken(1_000)]);
        assert_eq!(twice, ["error:gateway POST /pay=5xx", "latency:=0-100ms"]);
        let facts = facts_of(&[broken(0)], |_| false, 0, 1_000);
        assert!(
            facts.is_empty(),
            "another event of the step's instant is neither: {facts:?}"
        );
    }

    #[test]
    fn keys_tell_facts_apart() {
        let property = |name, value| Fact::new(FactKind::Property, name, value).key();
        assert_ne!(property("a=b", "c"), property("a", "b=c"));
        let rest = Fact {
            is_rest: true,
            ..Fact::new(FactKind::Property, "a", "")
        };
        assert_eq!(
            (rest.key().as_str(), property("a", "*").as_str()),
            ("property:a=*", "property:a=%2A")
        );
        assert_eq!(rest.label(), "a is one of its rarer values");
        for (index, kind) in FactKind::ALL.into_iter().enumerate() {
            assert_eq!(
                FactKind::from_code(u8::try_from(index).unwrap() + 1),
                Some(kind)
            );
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(
            (FactKind::from_code(0), FactKind::from_code(8)),
            (None, None)
        );
        assert_eq!(
            Fact::new(FactKind::Property, &"x".repeat(300), "")
                .name
                .len(),
            200
        );
    }
}
