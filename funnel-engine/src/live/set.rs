//! Several registered funnels over one stream of events.

use super::{History, HistoryError, LiveCounts, LiveError, LiveFunnel, Outcome, Snapshot, Subject};
use crate::{
    event::Event,
    shape::{Kind, Mark},
};

/// How many funnels one set may hold.
pub const MAX_FUNNELS: usize = 1_000;

/// Says what an event is to one funnel.
pub trait Classify {
    /// The steps it can fill and the exclusions it matches; `None` when it is not considered (outside the time range,
    /// or a global condition does not hold).
    fn kind(&self, event: &Event) -> Option<Kind>;
}

impl<C: Classify + ?Sized> Classify for std::sync::Arc<C> {
    fn kind(&self, event: &Event) -> Option<Kind> {
        (**self).kind(event)
    }
}

struct Registered {
    classify: Box<dyn Classify + Send>,
    funnel: LiveFunnel,
}

/// Registered funnels, fed together.
#[derive(Default)]
pub struct LiveSet {
    funnels: Vec<Registered>,
    /// How many funnels have taken the current event in; more than zero only after an error.
    done: usize,
}

impl std::fmt::Debug for LiveSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveSet")
            .field("funnels", &self.funnels.len())
            .finish_non_exhaustive()
    }
}

impl LiveSet {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a funnel. To have hours and days of one funnel, register it twice under two names.
    ///
    /// # Errors
    /// When there is one of that name, or [`MAX_FUNNELS`] are registered.
    pub fn register(
        &mut self,
        funnel: LiveFunnel,
        classify: Box<dyn Classify + Send>,
    ) -> Result<(), LiveError> {
        if self.funnel(funnel.name()).is_some() {
            let message = format!("`{}` is registered already; remove it first", funnel.name());
            return Err(LiveError::new("name", message));
        }
        if self.funnels.len() >= MAX_FUNNELS {
            let message = format!("{MAX_FUNNELS} funnels are registered; remove one first");
            return Err(LiveError::new("name", message));
        }
        self.funnels.push(Registered { classify, funnel });
        Ok(())
    }

    /// Removes a funnel; false when there is none of that name.
    pub fn remove(&mut self, name: &str) -> bool {
        let index = self
            .funnels
            .iter()
            .position(|other| other.funnel.name() == name);
        let Some(index) = index else {
            return false;
        };
        self.funnels.remove(index);
        self.done -= usize::from(index < self.done);
        true
    }

    /// A registered funnel.
    pub fn funnel(&self, name: &str) -> Option<&LiveFunnel> {
        self.funnels().find(|funnel| funnel.name() == name)
    }

    /// All of them, in the order of registration.
    pub fn funnels(&self) -> impl Iterator<Item = &LiveFunnel> {
        self.funnels.iter().map(|registered| &registered.funnel)
    }

    /// Takes in one event, in whatever order of time. True when any funnel took it.
    ///
    /// # Errors
    /// When `history` cannot tell. The funnels before that one have taken the event in: apply the same event again, or
    /// give it up with [`Self::skip`], before the next.
    pub fn apply(
        &mut self,
        event: &Event,
        mut history: Option<&mut dyn History>,
    ) -> Result<bool, HistoryError> {
        let session = event.property("session");
        let subject = Subject {
            tenant: event.tenant(),
            user: event.user.as_deref(),
            session: session.as_deref(),
        };
        let mut is_taken = false;
        for registered in self.funnels.iter_mut().skip(self.done) {
            match registered.classify.kind(event) {
                None => registered.funnel.observe(event.at_ns),
                Some(kind) => {
                    let mark = Mark {
                        at_ns: event.at_ns,
                        kind,
                    };
                    let history: Option<&mut dyn History> = match history {
                        Some(ref mut history) => Some(&mut **history),
                        None => None,
                    };
                    let outcome = registered.funnel.apply(&subject, mark, history)?;
                    is_taken |= matches!(outcome, Outcome::Applied | Outcome::Corrected);
                }
            }
            self.done += 1;
        }
        self.done = 0;
        Ok(is_taken)
    }

    /// Gives up an event that could not be applied: the funnels that have not taken it in leave it out.
    pub fn skip(&mut self) {
        self.done = 0;
    }

    /// Tells every funnel what time it is, nanoseconds since 1970 UTC.
    pub fn set_now(&mut self, now_ns: i64) {
        for registered in &mut self.funnels {
            registered.funnel.set_now(now_ns);
        }
    }

    /// As [`LiveFunnel::expect`]; false also when there is no such funnel.
    pub fn expect(&mut self, funnel: &str, tenant: &str, at_ns: i64) -> bool {
        let mut funnels = self.funnels.iter_mut();
        let found = funnels.find(|registered| registered.funnel.name() == funnel);
        found.is_some_and(|registered| registered.funnel.expect(tenant, at_ns))
    }

    /// Has every window that is kept published again.
    pub fn touch_all(&mut self) {
        for registered in &mut self.funnels {
            registered.funnel.touch_all();
        }
    }

    /// At most `limit` windows that changed or became final since they were last taken, each with a new revision.
    pub fn take_changes(&mut self, limit: usize) -> Vec<Snapshot> {
        let mut taken = Vec::new();
        for registered in &mut self.funnels {
            let room = limit.saturating_sub(taken.len());
            taken.extend(registered.funnel.take_changes(room));
        }
        taken
    }

    /// What each funnel took in, left out and holds.
    pub fn counts(&self) -> impl Iterator<Item = (&str, LiveCounts)> {
        self.funnels()
            .map(|funnel| (funnel.name(), funnel.counts()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::{
        definition::FunnelDefinition,
        live::{Ask, Judge, LiveConfig, Tumbling},
        shape::Verdict,
    };

    const SECOND: i64 = 1_000_000_000;

    struct Never;

    impl Judge for Never {
        fn judge(&mut self, _: &[Mark], _: &mut Verdict) {
            panic!("a plain funnel needs no judge");
        }
    }

    /// `a` fills the first step, `b` the second.
    struct Letters;

    impl Classify for Letters {
        fn kind(&self, event: &Event) -> Option<Kind> {
            let fills = u64::from(event.name == "a") + 2 * u64::from(event.name == "b");
            (event.name != "unconsidered").then_some(Kind { fills, excludes: 0 })
        }
    }

    /// Knows of nothing; away as long as it is told to be.
    struct Past {
        is_away: bool,
    }

    impl History for Past {
        fn marks(&mut self, _: &Ask<'_>, _: &mut Vec<Mark>) -> Result<(), HistoryError> {
            let away = HistoryError("away".to_owned());
            if self.is_away { Err(away) } else { Ok(()) }
        }
    }

    fn definition(name: &str, count: &str) -> FunnelDefinition {
        let json = format!(
            r#"{{"name":"{name}","window":"10s","count":"{count}","steps":[{{"name":"A","event":"a"}},{{"name":"B","event":"b"}}]}}"#
        );
        FunnelDefinition::parse(&json).unwrap()
    }

    fn funnel(name: &str, count: &str) -> LiveFunnel {
        let mut config = LiveConfig::new(Tumbling::HOUR);
        config.lateness_ns = 0;
        config.bounds.subjects = 1;
        LiveFunnel::new(&definition(name, count), Box::new(Never), config).unwrap()
    }

    fn event(user: &str, session: &str, seconds: i64, name: &str) -> Event {
        let properties = [("tenant", "t1"), ("session", session)];
        let properties = properties.map(|(key, value)| (key.to_owned(), Value::from(value)));
        Event {
            user: (!user.is_empty()).then(|| user.to_owned()),
            at_ns: seconds * SECOND,
            name: name.to_owned(),
            properties: BTreeMap::from(properties),
        }
    }

    fn counts(set: &LiveSet, name: &str) -> Vec<u64> {
        let steps = set
            .funnel(name)
            .unwrap()
            .steps_at("t1", 0)
            .unwrap_or_default();
        steps.iter().map(|step| step.count).collect()
    }

    #[test]
    fn one_stream_feeds_them_all() {
        let mut set = LiveSet::new();
        set.register(funnel("users", "users"), Box::new(Letters))
            .unwrap();
        set.register(funnel("sessions", "sessions"), Box::new(Letters))
            .unwrap();
        let again = set.register(funnel("users", "users"), Box::new(Letters));
        assert_eq!(again.unwrap_err().path, "name");
        assert!(set.apply(&event("", "s1", 1, "a"), None).unwrap());
        assert!(set.apply(&event("u1", "", 2, "a"), None).unwrap());
        assert!(!set.apply(&event("", "", 3, "b"), None).unwrap());
        assert!(
            set.apply(&event("u1", "s2", 4, "b"), None).unwrap(),
            "of another session, which is refused"
        );
        assert_eq!(counts(&set, "users"), [1, 1]);
        assert_eq!(counts(&set, "sessions"), [1, 0]);
        assert_eq!(set.take_changes(1).len(), 1);
        assert_eq!(set.take_changes(9).len(), 1);
        set.apply(&event("u1", "", 9_000, "unconsidered"), None)
            .unwrap();
        assert!(
            set.take_changes(9)
                .iter()
                .all(|snapshot| snapshot.is_final && snapshot.revision == 2)
        );
        assert!(set.remove("users") && !set.remove("users"));
        assert_eq!(set.funnels().count(), 1);
    }

    #[test]
    fn an_event_that_history_failed_is_taken_in_once_by_each_funnel() {
        let mut set = LiveSet::new();
        set.register(funnel("plenty", "users"), Box::new(Letters))
            .unwrap();
        set.register(funnel("full", "sessions"), Box::new(Letters))
            .unwrap();
        let mut past = Past { is_away: false };
        set.apply(&event("", "s1", 1, "a"), Some(&mut past))
            .unwrap();
        set.apply(&event("", "s2", 1, "a"), Some(&mut past))
            .unwrap();
        past.is_away = true;
        // Since a session had to make room, unknown ones are looked up; the other funnel has taken the event in by then.
        let late = event("u1", "s1", 2, "a");
        assert!(set.apply(&late, Some(&mut past)).is_err());
        assert!(set.apply(&late, Some(&mut past)).is_err());
        past.is_away = false;
        assert!(set.apply(&late, Some(&mut past)).unwrap());
        assert_eq!(counts(&set, "plenty"), [1, 0], "not twice");
        past.is_away = true;
        assert!(
            set.apply(&event("u1", "s2", 3, "b"), Some(&mut past))
                .is_err()
        );
        set.skip();
        assert!(
            set.apply(&event("u1", "s1", 4, "b"), Some(&mut past))
                .unwrap()
        );
        assert_eq!(counts(&set, "plenty"), [1, 1]);
    }

    #[test]
    fn a_clock_that_runs_ahead_does_not_close_the_windows() {
        let mut set = LiveSet::new();
        set.register(funnel("f", "users"), Box::new(Letters))
            .unwrap();
        set.set_now(100 * SECOND);
        set.apply(&event("u1", "", 90, "a"), None).unwrap();
        assert!(!set.apply(&event("u1", "", 9_000_000, "b"), None).unwrap());
        let (_, counts) = set.counts().next().unwrap();
        assert_eq!((counts.unbelieved, counts.applied), (1, 1));
        assert_eq!(set.funnels().next().unwrap().watermark_ns(), 90 * SECOND);
    }

    #[test]
    fn a_window_that_began_before_the_stream_is_not_told() {
        let mut config = LiveConfig::new(Tumbling::HOUR);
        config.begins_at_ns = 1_800 * SECOND;
        let funnel = LiveFunnel::new(&definition("f", "users"), Box::new(Never), config).unwrap();
        let mut set = LiveSet::new();
        set.register(funnel, Box::new(Letters)).unwrap();
        assert!(!set.apply(&event("u1", "", 1_900, "a"), None).unwrap());
        assert!(set.apply(&event("u1", "", 3_600, "a"), None).unwrap());
        let (_, counts) = set.counts().next().unwrap();
        assert_eq!((counts.before_begin, counts.windows), (1, 1));
    }

    #[test]
    fn a_window_that_is_expected_is_published_though_nobody_enters() {
        let mut set = LiveSet::new();
        set.register(funnel("f", "users"), Box::new(Letters))
            .unwrap();
        assert!(set.expect("f", "t1", 3_700 * SECOND) && set.expect("f", "t1", 3_800 * SECOND));
        assert!(!set.expect("g", "t1", 0));
        set.apply(&event("u1", "", 1, "a"), None).unwrap();
        let mut taken = set.take_changes(9);
        taken.sort_by_key(|snapshot| snapshot.from_ns);
        let counts: Vec<Vec<u64>> = taken.iter().map(|one| one.counts().collect()).collect();
        assert_eq!(counts, [[1, 0], [0, 0]]);
        assert!(set.take_changes(9).is_empty());
    }

    #[test]
    fn what_cannot_be_kept_live_is_refused_by_its_path() {
        let mut first_ever = definition("f", "users");
        first_ever.steps[1].occurrence = crate::definition::Occurrence::FirstEver;
        let mut clickhouse = definition("f", "users");
        clickhouse.order = crate::definition::Order::Clickhouse;
        for (definition, path) in [(first_ever, "steps[1].occurrence"), (clickhouse, "order")] {
            let refused =
                LiveFunnel::new(&definition, Box::new(Never), LiveConfig::new(Tumbling::DAY));
            assert_eq!(refused.unwrap_err().path, path);
        }
    }
}
