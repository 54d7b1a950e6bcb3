//! Events of two shops in a random order, and what the batch says of them by windows.

use std::collections::BTreeMap;

use event_store::{EventRow, Store};
use funnel_engine::{Event, FunnelDefinition, Interval, Trend, WeekStart, run_reference};
use jiff::tz::TimeZone;

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const HOUR: i64 = 3_600 * SECOND;

/// Funnel, tenant and beginning (RFC 3339) to counts by step; windows in which nobody is are left out.
pub(crate) type Windows = BTreeMap<(String, String, String), Vec<u64>>;

/// Numbers out of a seed (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// `count` events within six hours from `start_ns` on, on whole minutes, so that many fall together; shuffled by being
/// drawn.
pub(crate) fn events(dice: &mut Dice, count: u64, start_ns: i64) -> Vec<Event> {
    let names = ["login", "cart", "pay", "logout"];
    let draw = |_| {
        let (shop, user) = (1 + dice.below(2), dice.below(25));
        let mut properties: BTreeMap<String, serde_json::Value> = BTreeMap::new();
        properties.insert("tenant".to_owned(), format!("t{shop}").into());
        properties.insert(
            "session".to_owned(),
            format!("s{user}-{}", dice.below(3)).into(),
        );
        properties.insert("amount".to_owned(), dice.below(200).to_string().into());
        Event {
            user: (dice.below(12) > 0).then(|| format!("u{user}")),
            at_ns: start_ns + i64::try_from(dice.below(360)).unwrap() * 60 * SECOND,
            name: names[usize::try_from(dice.below(4)).unwrap()].to_owned(),
            properties,
        }
    };
    (0..count).map(draw).collect()
}

pub(crate) async fn insert(store: &Store, events: &[Event]) {
    let mut insert = store.database().insert::<EventRow>("events").await.unwrap();
    for event in events {
        let text = |name: &str| event.property(name).unwrap().into_owned();
        let row = EventRow {
            tenant_id: event.tenant().to_owned(),
            user_id: event.user.clone().unwrap_or_default(),
            timestamp: event.at_ns,
            event: event.name.clone(),
            session_id: Some(text("session")),
            trace_id: None,
            status_code: None,
            duration_ns: 0,
            properties: vec![("amount".to_owned(), text("amount"))],
        };
        insert.write(&row).await.unwrap();
    }
    insert.end().await.unwrap();
}

/// The batch answer by windows: for every step k, who entered in a window and went on to step k.
pub(crate) fn batch(
    funnels: &[(&str, FunnelDefinition)],
    events: &[Event],
    interval: Interval,
) -> Windows {
    let mut windows = Windows::new();
    for (slug, definition) in funnels {
        for tenant in ["t1", "t2"] {
            let events = events.iter().filter(|event| event.tenant() == tenant);
            let events: Vec<Event> = events.cloned().collect();
            for step in 1..=definition.steps.len() {
                let trend = Trend {
                    interval,
                    timezone: TimeZone::UTC,
                    week_start: WeekStart::Monday,
                    from_step: 1,
                    to_step: step,
                };
                let definition = FunnelDefinition {
                    trend: Some(trend),
                    ..definition.clone()
                };
                for point in run_reference(&definition, &events).unwrap().trend {
                    let from: jiff::Timestamp = point.bucket.parse().unwrap();
                    let key = ((*slug).to_owned(), tenant.to_owned(), from.to_string());
                    let counts = windows.entry(key);
                    counts.or_insert_with(|| vec![0; definition.steps.len()])[step - 1] =
                        point.converted;
                }
            }
        }
    }
    windows.retain(|_, counts| counts.iter().any(|count| *count > 0));
    windows
}
