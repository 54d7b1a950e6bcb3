//! Whose facts are read, and for how long each subject is watched.
//!
//! A subject is watched from the step on: one who converted until just before the next step, one who dropped until the
//! attempt's window ends (or for the watch asked for, if that is shorter). At most 100,000 subjects per side are read: those
//! with the smallest hash of tenant and user, so that the same question always reads the same ones.

use event_store::{Scope, TenantId};

use super::exposures::{Outcome, Side};

/// Subjects whose facts are read, per side.
pub const SAMPLE_MAX: usize = 100_000;

/// A subject that reached the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Whose shop; empty for none.
    pub tenant: String,
    /// Who.
    pub user: String,
    /// Only what happened in this session is theirs; `None` for whatever the user did.
    pub session: Option<String>,
    /// When the attempt began (time of its first step), nanoseconds since 1970 UTC: its window counts from here.
    pub started_at_ns: i64,
    /// When the step was reached, nanoseconds since 1970 UTC.
    pub reached_at_ns: i64,
    /// When the next step was; `None` for a subject that dropped.
    pub next_at_ns: Option<i64>,
}

/// One step of a funnel and the way to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Names of events that fill the step; `None` for any.
    pub step_events: Option<Vec<String>>,
    /// The funnel's conversion window, nanoseconds.
    pub window_ns: i64,
    /// Subjects that dropped are watched no longer than this after the step, nanoseconds; `None`: until the window
    /// ends.
    pub watch_ns: Option<i64>,
}

/// A subject of the sample. Times are nanoseconds since 1970 UTC; `ends` belong to the time watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watched<'a> {
    pub(super) subject: &'a Subject,
    pub(super) outcome: Outcome,
    pub(super) ends_at_ns: i64,
    /// As [`Self::ends_at_ns`], but at most as long as some converted subject was watched.
    pub(super) in_time_ends_at_ns: i64,
}

/// The subjects to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample<'a> {
    pub(super) watched: Vec<Watched<'a>>,
    pub(super) dropped: Side,
    pub(super) converted: Side,
}

impl<'a> Sample<'a> {
    /// Takes at most `side_max` subjects of each side, of those in scope.
    pub(super) fn new(
        subjects: &'a [Subject],
        scope: &Scope,
        transition: &Transition,
        side_max: usize,
    ) -> Self {
        let tenant = scope.tenant().map(TenantId::as_str);
        let in_scope = |subject: &&Subject| tenant.is_none_or(|tenant| tenant == subject.tenant);
        let (converted, dropped): (Vec<&Subject>, Vec<&Subject>) = subjects
            .iter()
            .filter(in_scope)
            .partition(|subject| subject.next_at_ns.is_some());
        let (converted, converted_side) = draw(converted, side_max);
        let (dropped, dropped_side) = draw(dropped, side_max);
        let mut gaps: Vec<i64> = converted.iter().copied().filter_map(gap_ns).collect();
        gaps.sort_unstable();
        let converted = converted.into_iter().filter_map(|subject| {
            let ends_at_ns = subject.next_at_ns?.saturating_sub(1);
            Some(Watched {
                subject,
                outcome: Outcome::Converted,
                ends_at_ns,
                in_time_ends_at_ns: ends_at_ns,
            })
        });
        let dropped = dropped
            .into_iter()
            .map(|subject| watch_dropped(subject, transition, &gaps));
        Self {
            watched: converted.chain(dropped).collect(),
            dropped: dropped_side,
            converted: converted_side,
        }
    }
}

fn watch_dropped<'a>(subject: &'a Subject, transition: &Transition, gaps: &[i64]) -> Watched<'a> {
    let window_ends = subject.started_at_ns.saturating_add(transition.window_ns);
    let watch_ends = transition.watch_ns.map_or(i64::MAX, |watch| {
        subject.reached_at_ns.saturating_add(watch)
    });
    let ends_at_ns = window_ends.min(watch_ends);
    // Another hash than the one that drew the sample, whose small values are all that is left.
    let dealt = usize::try_from(mixed(hash(subject)))
        .unwrap_or(0)
        .checked_rem(gaps.len())
        .and_then(|place| gaps.get(place));
    let in_time = dealt.map_or(ends_at_ns, |gap| {
        subject.reached_at_ns.saturating_add(*gap).saturating_sub(1)
    });
    Watched {
        subject,
        outcome: Outcome::Dropped,
        ends_at_ns,
        in_time_ends_at_ns: in_time.min(ends_at_ns),
    }
}

/// The subjects with the smallest hashes; the order in which they came does not matter.
fn draw(mut subjects: Vec<&Subject>, max: usize) -> (Vec<&Subject>, Side) {
    let total = subjects.len() as u64;
    subjects.sort_by_cached_key(|subject| {
        (
            hash(subject),
            subject.reached_at_ns,
            subject.session.clone(),
        )
    });
    subjects.truncate(max);
    let side = Side {
        total,
        sampled: subjects.len() as u64,
    };
    (subjects, side)
}

/// How long a converted subject took from the step to the next.
fn gap_ns(subject: &Subject) -> Option<i64> {
    Some(subject.next_at_ns?.saturating_sub(subject.reached_at_ns))
}

/// FNV-1a over tenant and user, mixed: the same everywhere and in every version, unlike the standard library's.
fn hash(subject: &Subject) -> u64 {
    let user = subject.user.bytes();
    let bytes = subject.tenant.bytes().chain([0xff]).chain(user);
    let sum = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mixed(sum)
}

/// The finalizer of splitmix64: every bit of the number moves every bit of the result.
const fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn subject(user: usize, gap: Option<i64>) -> Subject {
        Subject {
            tenant: format!("t{}", user % 2),
            user: format!("u{user}"),
            session: None,
            started_at_ns: 1_000,
            reached_at_ns: 1_500,
            next_at_ns: gap.map(|gap| 1_500 + gap),
        }
    }

    fn transition(watch_ns: Option<i64>) -> Transition {
        Transition {
            step_events: None,
            window_ns: 10_000,
            watch_ns,
        }
    }

    #[test]
    fn each_is_watched_until_the_next_step_or_the_end() {
        let subjects = [subject(0, Some(300)), subject(1, None)];
        let sample = Sample::new(&subjects, &Scope::Operator, &transition(None), 10);
        let shown: Vec<_> = sample
            .watched
            .iter()
            .map(|watched| {
                (
                    watched.outcome,
                    watched.ends_at_ns,
                    watched.in_time_ends_at_ns,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                (Outcome::Converted, 1_799, 1_799),
                (Outcome::Dropped, 11_000, 1_799)
            ]
        );
        let sample = Sample::new(
            &subjects[1..],
            &Scope::Operator,
            &transition(Some(2_000)),
            10,
        );
        assert_eq!(sample.watched[0].ends_at_ns, 3_500);
        assert_eq!(
            sample.watched[0].in_time_ends_at_ns, 3_500,
            "nobody to take the time from"
        );
    }

    #[test]
    fn a_sample_is_the_same_whatever_the_order_and_keeps_to_its_bound() {
        let mut subjects: Vec<Subject> = (0..3_000)
            .map(|user| subject(user, (user % 3 == 0).then_some(5)))
            .collect();
        let users = |subjects: &[Subject]| -> BTreeSet<String> {
            let sample = Sample::new(subjects, &Scope::Operator, &transition(None), 500);
            assert_eq!(
                sample.converted,
                Side {
                    total: 1_000,
                    sampled: 500
                }
            );
            assert_eq!(
                sample.dropped,
                Side {
                    total: 2_000,
                    sampled: 500
                }
            );
            assert_eq!(sample.watched.len(), 1_000);
            let users = sample.watched.iter();
            users.map(|watched| watched.subject.user.clone()).collect()
        };
        let first = users(&subjects);
        subjects.reverse();
        assert_eq!(users(&subjects), first);
        // Any half of the users is as likely drawn as the other.
        let even = first
            .iter()
            .filter(|user| user.ends_with(['0', '2', '4', '6', '8']))
            .count();
        assert!((440..560).contains(&even), "{even}");
    }

    #[test]
    fn the_times_dealt_are_those_of_the_converted() {
        let converted = (0..100).map(|user| subject(user, Some(i64::try_from(user).unwrap() + 1)));
        let dropped = (1_000..3_000).map(|user| subject(user, None));
        let subjects: Vec<Subject> = converted.chain(dropped).collect();
        let sample = Sample::new(&subjects, &Scope::Operator, &transition(None), 10_000);
        let of_dropped = sample
            .watched
            .iter()
            .filter(|one| one.outcome == Outcome::Dropped);
        let dealt: Vec<i64> = of_dropped
            .map(|one| one.in_time_ends_at_ns - 1_499)
            .collect();
        assert!(dealt.iter().all(|gap| (1..=100).contains(gap)));
        let mean = dealt.iter().sum::<i64>() / 2_000;
        assert!((47..=54).contains(&mean), "{mean}");
    }

    #[test]
    fn a_tenant_sees_only_its_own() {
        let subjects: Vec<Subject> = (0..10).map(|user| subject(user, None)).collect();
        let scope = Scope::Tenant(TenantId::new("t1").unwrap());
        let sample = Sample::new(&subjects, &scope, &transition(None), 10);
        assert_eq!(sample.dropped.total, 5);
        assert!(sample.watched.iter().all(|one| one.subject.tenant == "t1"));
        assert_eq!(
            Sample::new(&[], &scope, &transition(None), 10),
            Sample::default()
        );
    }
}
