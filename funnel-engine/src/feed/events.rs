//! Events of the store as live funnels take them in, and which of its partitions matter.

use std::collections::BTreeMap;

use event_store::TailEvent;
use jiff::{civil, tz::TimeZone};
use serde_json::Value;

use crate::{columnar::wanted_properties, definition::FunnelDefinition, event::Event};

/// The properties to read for a definition. The tenant is known without, and sessions are always read.
pub(super) fn properties_of(definition: &FunnelDefinition) -> Vec<String> {
    // A breakdown is nothing to a live funnel.
    let definition = FunnelDefinition {
        breakdown: None,
        ..definition.clone()
    };
    let wanted = wanted_properties(&definition).into_iter();
    let wanted = wanted.filter(|property| property != "tenant" && property != "session");
    std::iter::once("session".to_owned())
        .chain(wanted)
        .collect()
}

/// An event with the values of these properties. Whose shop it is says the store's column alone: a property of that
/// name may come from anybody.
pub(super) fn event(row: &TailEvent<'_>, properties: &[String]) -> Event {
    let set = properties.iter().zip(row.values);
    let set = set.filter_map(|(name, value)| Some((name.clone(), Value::from((*value)?))));
    let tenant = Some(row.tenant).filter(|tenant| !tenant.is_empty());
    let tenant = tenant.map(|tenant| ("tenant".to_owned(), Value::from(tenant)));
    Event {
        user: (!row.user.is_empty()).then(|| row.user.to_owned()),
        at_ns: row.at_ns,
        name: row.event.to_owned(),
        properties: set.chain(tenant).collect::<BTreeMap<_, _>>(),
    }
}

/// Where a partition lies to an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lies {
    /// All its events are earlier.
    Before,
    /// Some may be earlier and some not.
    Across,
    /// None is earlier.
    After,
}

/// Where a partition lies; one that is not called after a month, as `202611` is, may hold anything.
pub(super) fn lies(partition: &str, from_ns: i64) -> Lies {
    let Some((start, end)) = month_ns(partition) else {
        return Lies::Across;
    };
    if end <= from_ns {
        Lies::Before
    } else if start >= from_ns {
        Lies::After
    } else {
        Lies::Across
    }
}

fn month_ns(partition: &str) -> Option<(i64, i64)> {
    let (year, month) = partition.split_at_checked(4)?;
    let is_month = month.len() == 2 && partition.bytes().all(|byte| byte.is_ascii_digit());
    let (year, month) = (year.parse().ok()?, month.parse().ok()?);
    let start = civil::Date::new(year, month, 1).ok().filter(|_| is_month)?;
    let end = start.last_of_month().tomorrow().ok()?;
    let ns = |date: civil::Date| {
        let at = date.to_zoned(TimeZone::UTC).ok()?.timestamp();
        i64::try_from(at.as_nanosecond()).ok()
    };
    Some((ns(start)?, ns(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_lie_before_across_or_after() {
        let at = |text: &str| {
            let at: jiff::Timestamp = text.parse().unwrap();
            i64::try_from(at.as_nanosecond()).unwrap()
        };
        let from = at("2026-11-15T00:00:00Z");
        assert_eq!(lies("202610", from), Lies::Before);
        assert_eq!(lies("202611", from), Lies::Across);
        assert_eq!(lies("202612", from), Lies::After);
        assert_eq!(lies("202611", at("2026-11-01T00:00:00Z")), Lies::After);
        assert_eq!(lies("202611", at("2026-12-01T00:00:00Z")), Lies::Before);
        for other in ["all", "20261", "202613", "2026-1", ""] {
            assert_eq!(lies(other, from), Lies::Across, "{other}");
        }
    }

    #[test]
    fn the_tenant_is_the_column_and_no_property() {
        let properties = ["session", "device"].map(str::to_owned);
        let row = |tenant| TailEvent {
            tenant,
            user: "",
            at_ns: 7,
            event: "a",
            values: &[Some("s1"), None],
        };
        let event = |tenant| event(&row(tenant), &properties);
        assert_eq!((event("t1").tenant(), event("").tenant()), ("t1", ""));
        assert_eq!(event("").property("session").as_deref(), Some("s1"));
        assert_eq!((event("").user, event("").property("device")), (None, None));
        let definition = r#"{"name":"f","window":"1h","steps":[{"name":"A","event":"a"},{"name":"B","event":"b",
            "where":[{"property":"tenant","op":"eq","value":"t1"},{"property":"device","op":"is_set"}]}],
            "breakdown":{"properties":["colour"],"attribution":"first_touch"}}"#;
        let definition = FunnelDefinition::parse(definition).unwrap();
        assert_eq!(properties_of(&definition), ["session", "device"]);
    }
}
