//! Drivers from a real store against the facts as they are defined, over random events with many ties.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::LazyLock,
    time::SystemTime,
};

use event_store::{ExchangeRow, Scope, Store, TenantId};
use funnel_engine::why::{
    DriverOptions, DriverTable, Exposure, Fact, FactBook, FactId, FactKind, Finding, Observed,
    Outcome, Request, Subject, Transition, count_exposures, drivers, drivers_in_store, facts_of,
};
use weir_testing::{TestStore, exchange};

const MS: i64 = 1_000_000;

/// What all converted took, where they took the same: the last instant that counts is one at which things happen.
const ALIKE_NS: i64 = 40 * MS + 1;

/// A day ago, because the store forgets exchanges after 90 days.
static START: LazyLock<i64> = LazyLock::new(|| {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    i64::try_from(now.as_nanos()).unwrap() - 24 * 3_600_000 * MS
});

/// A small generator with a fixed sequence; the numbers need no quality, only variety.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A row of anything that can matter: odd texts, refusals, slow ones, calls seen from the client.
fn random_row(numbers: &mut Numbers, at_ns: i64, tenant: &str, user: &str) -> ExchangeRow {
    let events = [
        "cart",
        "",
        "pay.failed",
        "cart.out_of_stock",
        "declined",
        "cart",
        "",
    ];
    let routes = ["/pay", "/deductions", "/accounts/{id}", "", "/Stock_level"];
    let devices = ["mobile", "desk'top\\", "tab\tlet\n", "", "电话?"];
    let statuses = [Some(200), Some(402), Some(409), Some(502), Some(404), None];
    let durations = [0, 99, 100, 299, 300, 999, 1_000, 2_999, 3_000, 60_000];
    let attributes = [
        ("device", numbers.of(&devices).to_owned()),
        ("number", numbers.below(200).to_string()),
        (
            "outcome",
            numbers
                .of(&["", "", "", "declined", "out_of_stock"])
                .to_owned(),
        ),
        ("client_pid", numbers.below(9).to_string()),
        ("service", "overridden".to_owned()),
    ];
    ExchangeRow {
        duration_ns: durations[numbers.below(durations.len())] * 1_000_000,
        role: numbers
            .of(&["server", "server", "server", "client"])
            .to_owned(),
        service: text(numbers.of(&["gateway", "orders", ""])),
        method: text(numbers.of(&["POST", "GET", ""])),
        route: text(numbers.of(&routes)),
        status_code: statuses[numbers.below(statuses.len())],
        tenant_id: text(tenant),
        session_id: text(numbers.of(&["s1", "s2", ""])),
        event: text(numbers.of(&events)),
        outcome: numbers.of(&["ok", "ok", "error", "aborted"]).to_owned(),
        attributes: attributes
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec(),
        ..exchange(at_ns, user, "")
    }
}

/// Something observed, and in which session.
type Seen = (Option<String>, Observed);

/// What the two tables make of a row: an exchange, and an event if it is one.
fn observed(row: &ExchangeRow) -> Vec<Seen> {
    if row.role != "server" {
        return Vec::new();
    }
    let mut properties = row.attributes.clone();
    properties.extend(
        row.tenant_id
            .clone()
            .map(|tenant| ("tenant".to_owned(), tenant)),
    );
    let event = Observed {
        at_ns: row.timestamp,
        event: row.event.clone(),
        request: None,
        status: row.status_code,
        duration_ns: row.duration_ns,
        properties,
    };
    let exchange = Observed {
        request: Some(Request {
            service: row.service.clone(),
            method: row.method.clone(),
            route: row.route.clone(),
            outcome: row.outcome.clone(),
        }),
        ..event.clone()
    };
    let session = row.session_id.clone();
    let mut seen = vec![(session.clone(), exchange)];
    if event.event.is_some() {
        seen.push((session, event));
    }
    seen
}

/// The table by the definition, in memory. If the converted all took the same time, those who dropped are dealt that.
fn by_definition(
    rows: &[ExchangeRow],
    scope: &Scope,
    transition: &Transition,
    subjects: &[Subject],
    options: &DriverOptions,
    gap_ns: i64,
) -> DriverTable {
    let mut of_user: BTreeMap<(String, String), Vec<Seen>> = BTreeMap::new();
    for row in rows {
        let key = (
            row.tenant_id.clone().unwrap_or_default(),
            row.user_id.clone().unwrap(),
        );
        of_user.entry(key).or_default().extend(observed(row));
    }
    let in_scope = |subject: &&Subject| {
        scope
            .tenant()
            .is_none_or(|tenant| tenant.as_str() == subject.tenant)
    };
    let mut book = FactBook::default();
    let (mut outcomes, mut exposures) = (Vec::new(), Vec::new());
    for subject in subjects.iter().filter(in_scope) {
        let none = Vec::new();
        let seen = of_user
            .get(&(subject.tenant.clone(), subject.user.clone()))
            .unwrap_or(&none);
        let seen: Vec<Observed> = seen
            .iter()
            .filter(|(session, _)| subject.session.is_none() || subject.session == *session)
            .map(|(_, seen)| seen.clone())
            .collect();
        let is_step = |seen: &Observed| {
            let names = transition.step_events.as_ref();
            names.is_none_or(|names| {
                seen.event
                    .as_ref()
                    .is_some_and(|event| names.contains(event))
            })
        };
        let window_ends = subject.started_at_ns + transition.window_ns;
        let watch_ends = transition
            .watch_ns
            .map_or(i64::MAX, |watch| subject.reached_at_ns + watch);
        let ends = subject
            .next_at_ns
            .map_or(window_ends.min(watch_ends), |next| next - 1);
        let mut facts_until = |ends_at_ns: i64| -> Vec<FactId> {
            let facts = facts_of(&seen, is_step, subject.reached_at_ns, ends_at_ns);
            facts
                .into_iter()
                .map(|fact| book.id(fact).unwrap())
                .collect()
        };
        let (facts, facts_in_time) = (
            facts_until(ends),
            facts_until(ends.min(subject.reached_at_ns + gap_ns - 1)),
        );
        outcomes.push(if subject.next_at_ns.is_some() {
            Outcome::Converted
        } else {
            Outcome::Dropped
        });
        exposures.push(Exposure {
            subject: outcomes.len() - 1,
            facts,
            facts_in_time,
        });
    }
    drivers(count_exposures(&book, &outcomes, &exposures), options)
}

/// Each driver as a line; what depends on the times dealt to those who dropped only if asked for.
fn shown(table: &DriverTable, with_time_check: bool) -> Vec<String> {
    let mut lines: Vec<String> = table
        .drivers
        .iter()
        .map(|driver| {
            let mut line = format!(
                "{} {:?} {:.9} {:.9}",
                driver.key, driver.counts, driver.p, driver.p_corrected
            );
            if with_time_check {
                let check = driver.time_check;
                let lost = driver.lost_conversions;
                write!(line, " {check:.6?} {lost:.6?} {:?}", driver.finding).unwrap();
            }
            line
        })
        .collect();
    lines.sort();
    lines
}

/// Users of two shops (and of none), some with the same name, each with a few rows around the time of the step.
fn world() -> (Vec<ExchangeRow>, Vec<Subject>) {
    let mut numbers = Numbers(11);
    let (mut rows, mut subjects) = (Vec::new(), Vec::new());
    for number in 0..600 {
        let tenant = numbers.of(&["t1", "t2", ""]);
        let user = format!("u'{}\\", number / 2);
        let reached = *START + i64::from(number) * 1_000 * MS;
        for _ in 0..numbers.below(8) {
            let at = reached + (i64::try_from(numbers.below(12)).unwrap() - 1) * 10 * MS;
            rows.push(random_row(&mut numbers, at, tenant, &user));
        }
        let mut step = random_row(&mut numbers, reached, tenant, &user);
        (step.role, step.event) = ("server".to_owned(), text("cart"));
        rows.push(step);
        subjects.push(Subject {
            tenant: tenant.to_owned(),
            user,
            session: [None, None, text("s1")][numbers.below(3)].clone(),
            started_at_ns: reached - 5 * MS,
            reached_at_ns: reached,
            next_at_ns: (numbers.below(2) == 0)
                .then(|| reached + i64::try_from(numbers.below(9)).unwrap() * 10 * MS),
        });
    }
    (rows, subjects)
}

async fn ask(
    store: &Store,
    scope: &Scope,
    transition: &Transition,
    subjects: &[Subject],
) -> DriverTable {
    let options = DriverOptions {
        exposed_min: 1,
        ..DriverOptions::default()
    };
    drivers_in_store(store, scope, transition, subjects, &options)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_store_counts_what_the_definition_says() {
    let test_store = TestStore::start().await;
    let store = &test_store.store;
    let (rows, subjects) = world();
    store.insert_exchanges(&rows, "world").await.unwrap();
    let options = DriverOptions {
        exposed_min: 1,
        ..DriverOptions::default()
    };
    let named = Transition {
        step_events: Some(vec!["cart".to_owned(), "it's".to_owned()]),
        window_ns: 90 * MS,
        watch_ns: None,
    };
    let any = Transition {
        step_events: None,
        ..named.clone()
    };
    let short = Transition {
        watch_ns: Some(30 * MS),
        ..named.clone()
    };
    let tenant = Scope::Tenant(TenantId::new("t1").unwrap());
    let alike: Vec<Subject> = subjects
        .iter()
        .map(|subject| Subject {
            next_at_ns: subject.next_at_ns.map(|_| subject.reached_at_ns + ALIKE_NS),
            ..subject.clone()
        })
        .collect();
    for (scope, transition, subjects) in [
        (&Scope::Operator, &named, &subjects),
        (&Scope::Operator, &any, &subjects),
        (&Scope::Operator, &short, &subjects),
        (&tenant, &named, &subjects),
        (&Scope::Operator, &named, &alike),
    ] {
        let is_alike = subjects == &alike;
        let ours = ask(store, scope, transition, subjects).await;
        let truth = by_definition(&rows, scope, transition, subjects, &options, ALIKE_NS);
        let (ours_shown, truth_shown) = (shown(&ours, is_alike), shown(&truth, is_alike));
        let differing = ours_shown.iter().zip(&truth_shown).find(|(a, b)| a != b);
        assert_eq!(differing, None, "{scope:?} {transition:?}");
        assert_eq!(ours_shown.len(), truth_shown.len());
        assert_eq!(
            (ours.dropped, ours.converted),
            (truth.dropped, truth.converted)
        );
        let kinds: BTreeSet<FactKind> =
            ours.drivers.iter().map(|driver| driver.fact.kind).collect();
        assert_eq!(kinds.len(), 7, "every kind of fact took part");
        assert!(
            ours.drivers.iter().any(|driver| driver.fact.is_rest),
            "rare values were folded"
        );
        assert!(
            ours.drivers
                .iter()
                .all(|driver| driver.fact.name != "client_pid")
        );
    }
    let none = ask(store, &Scope::Operator, &named, &[]).await;
    assert!(none.drivers.is_empty() && none.dropped.total == 0);
    planted(store).await;
    beyond_the_window(store).await;
}

/// Cart to pay, 800 buyers: of 120 declined cards few try again, of 160 who waited four seconds many give up.
fn planted_rows() -> (Vec<ExchangeRow>, Vec<Subject>) {
    let mut numbers = Numbers(5);
    let (mut rows, mut subjects) = (Vec::new(), Vec::new());
    for number in 0..800 {
        let user = format!("planted-{number}");
        let reached = *START + 3_600_000 * MS + i64::from(number) * MS;
        let (is_declined, is_slow) = (number % 20 < 3, number % 20 >= 16);
        let percent = match (is_declined, is_slow) {
            (true, _) => 25,
            (_, true) => 35,
            (false, false) => 80,
        };
        let device = numbers.of(&["mobile", "desktop"]).to_owned();
        rows.push(ExchangeRow {
            attributes: vec![("device".to_owned(), device)],
            ..exchange(reached, &user, "cart")
        });
        if is_declined {
            rows.push(ExchangeRow {
                route: text("/pay"),
                status_code: Some(402),
                ..exchange(reached + 50 * MS, &user, "pay.failed")
            });
        }
        rows.push(ExchangeRow {
            event: None,
            route: text("/shipping"),
            duration_ns: if is_slow { 4_000_000_000 } else { 5_000_000 },
            ..exchange(reached + 20 * MS, &user, "")
        });
        let next = (numbers.below(100) < percent).then_some(reached + 6_000 * MS);
        subjects.push(reached_cart(user, reached, next));
    }
    (rows, subjects)
}

fn reached_cart(user: String, reached_at_ns: i64, next_at_ns: Option<i64>) -> Subject {
    Subject {
        tenant: "t1".to_owned(),
        user,
        session: None,
        started_at_ns: reached_at_ns,
        reached_at_ns,
        next_at_ns,
    }
}

fn after_cart(window_ns: i64) -> Transition {
    Transition {
        step_events: Some(vec!["cart".to_owned()]),
        window_ns,
        watch_ns: None,
    }
}

/// What was planted is found, by name, and noise is not told from chance.
async fn planted(store: &Store) {
    let (rows, subjects) = planted_rows();
    store.insert_exchanges(&rows, "planted").await.unwrap();
    let (scope, options) = (Scope::Operator, DriverOptions::default());
    let transition = after_cart(3_600_000 * MS);
    let table = drivers_in_store(store, &scope, &transition, &subjects, &options)
        .await
        .unwrap();
    let found: Vec<&str> = table
        .drivers
        .iter()
        .filter(|driver| driver.finding == Finding::DropsMore)
        .map(|driver| driver.key.as_str())
        .collect();
    for key in [
        "failed:pay.failed",
        "payment_declined",
        "error:gateway POST /pay=4xx",
        "latency:=3s-",
        "latency:gateway POST /shipping=3s-",
    ] {
        assert!(found.contains(&key), "{key} is not in {found:?}");
    }
    assert!(
        !found.iter().any(|key| key.starts_with("property:")),
        "{found:?}"
    );
    let declined = Fact::new(FactKind::PaymentDeclined, "", "");
    let declined = table.drivers.iter().find(|driver| driver.fact == declined);
    let declined = declined.unwrap();
    assert_eq!(declined.counts.exposed(), 120);
    assert!(declined.time_check.unwrap().holds && declined.odds_ratio.unwrap().low > 1.0);
}

/// What comes after the window is not held against the drop-off, and users of other shops are not read.
async fn beyond_the_window(store: &Store) {
    let reached = *START + 7_200_000 * MS;
    let (mut rows, mut subjects) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let user = format!("late-{number}");
        let failed_at = reached + 1_000 * MS + i64::from(number >= 10);
        rows.push(exchange(reached, &user, "cart"));
        rows.push(exchange(failed_at, &user, "pay.failed"));
        subjects.push(reached_cart(user, reached, None));
    }
    store.insert_exchanges(&rows, "late").await.unwrap();
    let transition = after_cart(1_000 * MS);
    let failed = |table: &DriverTable| {
        let mut drivers = table.drivers.iter();
        let found = drivers.find(|driver| driver.key == "failed:pay.failed");
        found.map(|driver| driver.counts.dropped_with)
    };
    let table = ask(store, &Scope::Operator, &transition, &subjects).await;
    assert_eq!(failed(&table), Some(10));
    let other = Scope::Tenant(TenantId::new("t2").unwrap());
    let table = ask(store, &other, &transition, &subjects).await;
    assert_eq!((table.dropped.total, failed(&table)), (0, None));
}
