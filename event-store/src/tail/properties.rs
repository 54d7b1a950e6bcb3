//! The properties of events that an index holds already, for building columns beside it.
//!
//! What a property of an event of the store is called:
//!
//! | property | is | else |
//! |---|---|---|
//! | `tenant` | the column `tenant_id`, unless it is empty | as any other |
//! | `session` | the column `session_id`, unless it is NULL | as any other |
//! | `status_code` | the column of that name in decimal digits, unless it is NULL | as any other |
//! | `duration_ms` | `toString(duration_ns / 1e6)`: the shortest text of that double, `1` or `0.25` | |
//! | `status_class` | the value of that key in the map `properties` | `2xx` and so on, by the property `status_code`, if that is three digits from 100 to 599 |
//! | any other | the value of that key in the map `properties` | not set |
//!
//! Set to the empty text is set. Of a key that the map has twice the first value counts. What is not UTF-8 in a value
//! is replaced by U+FFFD.

use clickhouse::query::Query;
use serde::Deserialize;

use super::{
    TailRead, misuse,
    slices::{FIRST_OF_PART, LAST_OF_PART, Slice},
};
use crate::store::{Store, StoreError};

/// Most properties of one question.
pub const PROPERTIES_MAX: usize = 64;
/// Most slices of one question.
pub const SLICES_MAX: usize = 1_000;

/// Whose properties are wanted.
#[derive(Clone, Copy, Debug)]
pub struct PropertyQuestion<'a> {
    /// The one tenant; empty for events without one.
    pub tenant: &'a str,
    /// Which rows: 1 to [`SLICES_MAX`] slices that do not overlap.
    pub slices: &'a [Slice],
    /// Which properties: 1 to [`PROPERTIES_MAX`].
    pub properties: &'a [&'a str],
}

/// An event with the values of the properties asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertyRow<'a> {
    /// Who; empty when unknown.
    pub user: &'a str,
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// What.
    pub event: &'a str,
    /// By property as asked; none where it is not set.
    pub values: &'a [Option<&'a str>],
}

#[derive(Deserialize, clickhouse::Row)]
struct RawRow<'a> {
    user_id: &'a [u8],
    timestamp: i64,
    event: &'a [u8],
    #[serde(borrow)]
    texts: Vec<Option<&'a [u8]>>,
}

impl Store {
    /// Passes on the same rows that [`Store::tail_rows`] passes on for these slices and one tenant, with properties.
    ///
    /// They are ordered by user and event name (as bytes) and time: `user, at_ns, event`; rows alike in all three by
    /// their place in the table. That order is total and stays the same, so the n-th of such rows is the same row
    /// whichever properties are asked for.
    ///
    /// # Errors
    /// When a bound of the question is broken, or the store is away or refuses; some rows may have been passed on by
    /// then.
    pub async fn property_rows(
        &self,
        question: &PropertyQuestion<'_>,
        sink: &mut (dyn FnMut(PropertyRow<'_>) + Send),
    ) -> Result<TailRead, StoreError> {
        let reading = async {
            question.check()?;
            let mut read = TailRead::default();
            let query = self.database().query(&question.statement());
            let mut query = bind_texts(query, question.properties).bind(question.tenant);
            for slice in question.slices {
                query = query.bind(slice.partition.as_str());
            }
            let mut rows = query.fetch::<RawRow<'_>>()?;
            while let Some(raw) = rows.next().await? {
                let row = read.sift(b"", raw.user_id, raw.timestamp, raw.event);
                let Some(row) = row else { continue };
                let texts = raw.texts.into_iter();
                let values: Result<Vec<_>, _> = texts
                    .map(|text| text.map(str::from_utf8).transpose())
                    .collect();
                sink(PropertyRow {
                    user: row.user,
                    at_ns: row.at_ns,
                    event: row.event,
                    values: &values?,
                });
            }
            Ok(read)
        };
        reading.await.map_err(self.error("reading properties"))
    }
}

impl PropertyQuestion<'_> {
    fn check(&self) -> Result<(), clickhouse::error::Error> {
        let fits = |count: usize, most: usize| (1..=most).contains(&count);
        if !fits(self.properties.len(), PROPERTIES_MAX) {
            let count = self.properties.len();
            return Err(misuse(format!(
                "{count} properties asked for: ask for 1 to {PROPERTIES_MAX} at once"
            )));
        }
        if !fits(self.slices.len(), SLICES_MAX) {
            let count = self.slices.len();
            return Err(misuse(format!(
                "{count} slices asked for: ask for 1 to {SLICES_MAX} at once"
            )));
        }
        Ok(())
    }

    /// Binds: each property of the map twice, the tenant, the partition of each slice.
    fn statement(&self) -> String {
        let slices: Vec<String> = self
            .slices
            .iter()
            .map(|slice| format!("({})", slice.condition()))
            .collect();
        // The engine spares whole parts by terms that stand alone, so the slices' hull stands beside them.
        let first = self.slices.iter().map(|slice| slice.first_block).min();
        let last = self.slices.iter().map(|slice| slice.last_block).max();
        format!(
            "SELECT user_id, timestamp, event, [{texts}] AS texts FROM events \
             WHERE tenant_id = ? AND {LAST_OF_PART} >= {first} AND {FIRST_OF_PART} <= {last} AND ({slices}) \
             ORDER BY user_id, timestamp, event, _block_number, _block_offset",
            texts = texts(self.properties),
            first = first.unwrap_or(0),
            last = last.unwrap_or(u64::MAX),
            slices = slices.join(" OR "),
        )
    }
}

/// The texts of properties, as a list of columns; to be bound by [`bind_texts`].
pub(super) fn texts(properties: &[&str]) -> String {
    let texts = properties.iter().map(|property| {
        let text = expression(property).unwrap_or_else(|| value_of("?"));
        format!("CAST(toValidUTF8({text}) AS Nullable(String))")
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// Binds what [`texts`] left open: each property of the map twice.
pub(super) fn bind_texts(mut query: Query, properties: &[&str]) -> Query {
    for property in properties {
        if expression(property).is_none() {
            query = query.bind(property).bind(property);
        }
    }
    query
}

/// The text of a property that is more than a key of the map; none for the others.
pub(super) fn expression(property: &str) -> Option<String> {
    let status_code = || {
        format!(
            "coalesce(toString(status_code), {})",
            value_of("'status_code'")
        )
    };
    match property {
        "tenant" => Some(format!(
            "if(tenant_id != '', toString(tenant_id), {})",
            value_of("'tenant'")
        )),
        "session" => Some(format!("coalesce(session_id, {})", value_of("'session'"))),
        "status_code" => Some(status_code()),
        "status_class" => Some(format!(
            "coalesce({said}, if(match({code}, '^[1-5][0-9][0-9]$'), concat(substring({code}, 1, 1), 'xx'), NULL))",
            said = value_of("'status_class'"),
            code = status_code(),
        )),
        "duration_ms" => Some("toString(duration_ns / 1e6)".to_owned()),
        _ => None,
    }
}

/// The value of a key of the map, which is given as it stands in the statement.
fn value_of(key: &str) -> String {
    format!("if(mapContains(properties, {key}), properties[{key}], NULL)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_mark_of_the_statement_is_bound() {
        let slices = [Slice::of("202610", 3, 9), Slice::of("202611", 1, 2)];
        let question = PropertyQuestion {
            tenant: "t1",
            slices: &slices,
            properties: &["device", "session", "a?b"],
        };
        let statement = question.statement();
        assert_eq!(statement.matches('?').count(), 2 + 2 + 1 + 2);
        assert!(statement.contains(&format!("{FIRST_OF_PART} <= 9")));
        assert!(statement.contains(&format!("{LAST_OF_PART} >= 1")));
        // Without the last two, rows alike in the others would change places from question to question.
        assert!(statement.ends_with("user_id, timestamp, event, _block_number, _block_offset"));
        assert_eq!(question.check().map_err(|error| error.to_string()), Ok(()));
    }

    #[test]
    fn too_much_at_once_is_refused_by_number() {
        let slices = vec![Slice::of("202610", 3, 9); SLICES_MAX + 1];
        let ask = |properties: &'static [&'static str]| PropertyQuestion {
            tenant: "t1",
            slices: &slices,
            properties,
        };
        let refused = |question: PropertyQuestion<'_>| question.check().unwrap_err().to_string();
        assert!(refused(ask(&[])).contains("0 properties"));
        assert!(refused(ask(&["a"])).contains("1001 slices"));
    }
}
