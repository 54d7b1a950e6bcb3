//! What is answered inside the store, and by which kind of statement; everything else is refused by its JSON path.
//!
//! A part is accepted only if its statement is exact for every event there can be, ties included.

use super::window_funnel;
use crate::definition::{
    Attribution, Count, DefinitionError, FunnelDefinition, Occurrence, Order, Step, StepEvent,
};

/// Steps that may share an event with another one. Beside a tie of events, the statement keeps every set of these steps
/// that the events can fill: at most 924 sets.
const SHARING_MAX: usize = 12;
/// A level per bit, and one before the first.
const LEVELS_MAX: usize = 63;

/// By which kind of statement the store answers a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatementKind {
    /// By `windowFunnel` itself (`window_funnel`).
    WindowFunnel,
    /// Level by level, over whole arrays (`levels`).
    Levels,
    /// Level by level, with the time of the last step (`gaps`).
    Gaps,
    /// One automaton per start (`attempts`).
    Automaton,
    /// As that, where one event can fill several steps.
    SharedAutomaton,
    /// One set of steps per start (`unordered`).
    Unordered,
    /// As that, where one event can fill several steps.
    SharedUnordered,
}

impl StatementKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::WindowFunnel,
        Self::Levels,
        Self::Gaps,
        Self::Automaton,
        Self::SharedAutomaton,
        Self::Unordered,
        Self::SharedUnordered,
    ];

    /// Whether the work grows with the events of a subject alone, not with its starts too.
    pub(super) const fn is_linear(self) -> bool {
        match self {
            Self::WindowFunnel | Self::Levels | Self::Gaps => true,
            Self::Automaton | Self::SharedAutomaton | Self::Unordered | Self::SharedUnordered => {
                false
            }
        }
    }

    /// A few words for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WindowFunnel => "windowFunnel",
            Self::Levels => "level by level",
            Self::Gaps => "level by level, with limits of gaps",
            Self::Automaton => "an automaton per start",
            Self::SharedAutomaton => "an automaton per start, over steps that share events",
            Self::Unordered => "a set of steps per start",
            Self::SharedUnordered => "sets of steps per start, over steps that share events",
        }
    }
}

/// The kind of statement that answers a definition.
///
/// # Errors
/// The JSON path of the part that no statement answers, and what does.
pub(super) fn kind(definition: &FunnelDefinition) -> Result<StatementKind, DefinitionError> {
    if definition.count == Count::Totals {
        return Err(refused("count", "`totals` need one entry after another"));
    }
    occurrences(definition)?;
    let steps = &definition.steps;
    if definition.order == Order::Clickhouse {
        if steps.len() > window_funnel::STEPS_MAX {
            let limit = format!(
                "`windowFunnel` takes at most {} steps, this funnel has {}",
                window_funnel::STEPS_MAX,
                steps.len()
            );
            return Err(refused("steps", &limit));
        }
        return Ok(StatementKind::WindowFunnel);
    }
    let sharing = sharing(steps);
    if let Some(gap) = first_gap(steps) {
        return gaps(definition, &gap, sharing.is_empty());
    }
    let shares = !sharing.is_empty();
    if sharing.len() > SHARING_MAX {
        let path = format!(
            "steps[{}].event",
            sharing.first().copied().unwrap_or_default()
        );
        let limit = format!(
            "{} steps share events, more than {SHARING_MAX}",
            sharing.len()
        );
        return Err(refused(path, &limit));
    }
    let is_plain =
        !shares && definition.exclusions.is_empty() && !steps.iter().any(|step| step.optional);
    match definition.order {
        Order::Unordered => Ok(if shares {
            StatementKind::SharedUnordered
        } else {
            StatementKind::Unordered
        }),
        Order::Ordered if is_plain => Ok(StatementKind::Levels),
        Order::Ordered | Order::Strict | Order::Clickhouse if steps.len() > LEVELS_MAX => {
            Err(refused(
                "steps",
                &format!("such a funnel has at most {LEVELS_MAX} steps there"),
            ))
        }
        Order::Ordered | Order::Strict | Order::Clickhouse => Ok(if shares {
            StatementKind::SharedAutomaton
        } else {
            StatementKind::Automaton
        }),
    }
}

fn refused(path: impl Into<String>, why: &str) -> DefinitionError {
    DefinitionError::at(
        path,
        format!("{why}, which ClickHouse is not asked for; the columnar backend answers it"),
    )
}

/// A user's first event is found where a subject is a user with all events.
fn occurrences(definition: &FunnelDefinition) -> Result<(), DefinitionError> {
    let is_limited = |step: &Step| step.occurrence != Occurrence::Any;
    let Some(index) = definition.steps.iter().position(is_limited) else {
        return Ok(());
    };
    let path = format!("steps[{index}].occurrence");
    let breakdown = definition.breakdown.as_ref();
    if definition.count == Count::Sessions {
        return Err(refused(path, "a first event of a user across sessions"));
    }
    if breakdown.is_some_and(|breakdown| breakdown.attribution == Attribution::AllSteps) {
        return Err(refused(
            path,
            "a first event of a user across the values of a breakdown",
        ));
    }
    if definition.order == Order::Clickhouse {
        return Err(refused(path, "a first event for `windowFunnel`"));
    }
    Ok(())
}

/// The steps, by index, that share an event's name with another one.
fn sharing(steps: &[Step]) -> Vec<usize> {
    let share = |one: &StepEvent, other: &StepEvent| match (one.names(), other.names()) {
        (Some(names), Some(_)) => names.iter().any(|name| other.accepts(name)),
        (None, _) | (_, None) => true,
    };
    let shares = |index: &usize| {
        let (before, rest) = steps.split_at(*index);
        let Some((own, after)) = rest.split_first() else {
            return false;
        };
        before
            .iter()
            .chain(after)
            .any(|other| share(&own.event, &other.event))
    };
    (0..steps.len()).filter(shares).collect()
}

/// The path of the first limit of a gap.
fn first_gap(steps: &[Step]) -> Option<String> {
    steps.iter().enumerate().find_map(|(index, step)| {
        let key = match (step.within, step.not_before) {
            (Some(_), _) => "within",
            (None, Some(_)) => "not_before",
            (None, None) => return None,
        };
        Some(format!("steps[{index}].{key}"))
    })
}

/// Limits of gaps go together with little else: the time of the last step is then a part of what must be remembered.
fn gaps(
    definition: &FunnelDefinition,
    path: &str,
    is_disjoint: bool,
) -> Result<StatementKind, DefinitionError> {
    let starts_later = definition
        .trend
        .as_ref()
        .is_some_and(|trend| trend.from_step > 1);
    let with = if definition.order != Order::Ordered {
        "`strict` order"
    } else if definition.steps.iter().any(|step| step.optional) {
        "optional steps"
    } else if !definition.exclusions.is_empty() {
        "exclusions"
    } else if !is_disjoint {
        "steps that share events"
    } else if starts_later {
        "a trend from a later step than the first"
    } else {
        return Ok(StatementKind::Gaps);
    };
    Err(refused(
        path,
        &format!("the limit of a gap together with {with}"),
    ))
}
