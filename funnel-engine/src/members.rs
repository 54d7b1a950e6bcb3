//! Who is behind a bar: who belongs on a list, in which order, and where a page of it begins.
//!
//! Owns: the meaning of the lists, for every backend. A list is sorted by where its members stopped, the latest first,
//! and a page begins after the last member of the one before. So pages neither repeat nor skip anybody whose answer
//! stays what it was, whatever arrives in between, and together they are the bar.

use std::{cmp::Reverse, ops::RangeInclusive};

use serde::{Deserialize, Serialize};

use crate::{definition::FunnelDefinition, shape::Attempt, tally::Steps};

/// Which part of those who reached a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// Who did not reach the next step that may not be skipped: the step's `drop_off`. Nobody at a step that may be
    /// skipped, and at the last that may not.
    Dropped,
    /// Who did; of the last such step, all who reached it; of a step that may be skipped, all who took it.
    Converted,
}

/// A part of a step's bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// The step, counted from 1.
    pub step: usize,
    /// Which part.
    pub which: Which,
}

/// What an attempt on a list has reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// One of these levels.
    Levels(RangeInclusive<usize>),
    /// This step, counted from 1.
    Step(usize),
    /// Something that cannot be.
    Nothing,
}

/// One who is counted at a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Whose shop; empty when the events do not say.
    pub tenant_id: String,
    /// Who; empty where a session without a user is counted.
    pub user_id: String,
    /// Which session, where sessions are counted.
    pub session_id: Option<String>,
    /// The highest step of the attempt that counts, from 1.
    pub level: usize,
    /// When each step was filled, nanoseconds since 1970 UTC; by position in `unordered` funnels.
    pub times_ns: Vec<Option<i64>>,
}

/// A place in a list: after this member. Earlier places are smaller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListCursor {
    /// When they stopped, nanoseconds since 1970 UTC.
    pub stopped_at_ns: Reverse<i64>,
    /// Whose shop.
    pub tenant_id: String,
    /// Who.
    pub user_id: String,
    /// Which session, where sessions are counted; otherwise empty.
    pub session_id: String,
    /// When their attempt began: with `totals` a user may be there more than once.
    pub started_at_ns: i64,
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberPage {
    /// In the order of the list.
    pub members: Vec<Member>,
    /// Where the next page begins, if there is one.
    pub next: Option<ListCursor>,
}

impl Bar {
    pub(crate) fn reach(self, definition: &FunnelDefinition) -> Reach {
        let steps = Steps::of(definition);
        let index = self.step.saturating_sub(1);
        let last = definition.steps.len();
        let is_optional = steps.optional.get(index).copied().unwrap_or(false);
        let next = steps.next(index).map(|next| next + 1);
        match (self.which, next) {
            (Which::Converted, _) if is_optional => Reach::Step(self.step),
            (Which::Converted, None) => Reach::Levels(self.step..=last),
            (Which::Converted, Some(next)) => Reach::Levels(next..=last),
            (Which::Dropped, Some(next)) if !is_optional => Reach::Levels(self.step..=next - 1),
            (Which::Dropped, _) => Reach::Nothing,
        }
    }
}

impl Reach {
    pub(crate) fn holds(&self, attempt: &Attempt) -> bool {
        match self {
            Self::Levels(levels) => levels.contains(&attempt.level),
            Self::Step(step) => attempt.time(step - 1).is_some(),
            Self::Nothing => false,
        }
    }
}

impl Member {
    fn time_ns(&self, step: usize) -> Option<i64> {
        let index = step.checked_sub(1)?;
        self.times_ns.get(index).copied().flatten()
    }

    /// When the attempt that counts began, nanoseconds since 1970 UTC.
    pub fn started_at_ns(&self) -> i64 {
        self.time_ns(1).unwrap_or_default()
    }

    /// When it reached its highest step.
    pub fn stopped_at_ns(&self) -> i64 {
        self.time_ns(self.level).unwrap_or_default()
    }

    /// When it reached a step, counted from 1.
    pub fn reached_at_ns(&self, step: usize) -> Option<i64> {
        self.time_ns(step)
    }

    /// When it reached the next step that may not be skipped.
    pub fn next_at_ns(&self, definition: &FunnelDefinition, step: usize) -> Option<i64> {
        let next = Steps::of(definition).next(step.checked_sub(1)?)?;
        self.time_ns(next + 1)
    }

    /// The cursor of the page that begins after this member.
    pub fn cursor(&self) -> ListCursor {
        ListCursor {
            stopped_at_ns: Reverse(self.stopped_at_ns()),
            tenant_id: self.tenant_id.clone(),
            user_id: self.user_id.clone(),
            session_id: self.session_id.clone().unwrap_or_default(),
            started_at_ns: self.started_at_ns(),
        }
    }
}

impl MemberPage {
    /// The first `limit` of what was found; one more was looked for.
    pub(crate) fn of(mut members: Vec<Member>, limit: usize) -> Self {
        let is_more = members.len() > limit;
        members.truncate(limit);
        let last = members.last().filter(|_| is_more);
        Self {
            next: last.map(Member::cursor),
            members,
        }
    }
}
