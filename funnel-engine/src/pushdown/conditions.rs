//! Conditions in SQL, as `predicate` reads them.
//!
//! Owns: what a property is in a table of the store, and each operator on it. Every condition is 0 or 1, never NULL.
//! A property that no column holds is a key of the map; the names of columns always mean the columns, because a key
//! may come from a header that anyone can send.

use serde_json::Value;

use super::sql::Sql;
use crate::predicate::{Condition, Op, Test, text_of};

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// Business events of known users.
    Events,
    /// Every exchange of a known user, seen at the server.
    Exchanges,
    /// Exchanges that are business events, read as those: what an exchange alone knows is not looked at.
    EventExchanges,
}

/// The number grammar of JSON.
const NUMBER: &str = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$";

/// A property of a row.
struct Property {
    /// Its text; NULL (columns) or empty (keys) where it is not set.
    text: Sql,
    /// Whether it is set.
    is_set: Sql,
    /// Its number, where a column holds one.
    number: Option<&'static str>,
    is_column: bool,
}

impl Table {
    /// The name in the schema.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Exchanges | Self::EventExchanges => "http_exchanges",
        }
    }

    const fn map(self) -> &'static str {
        match self {
            Self::Events => "e.properties",
            Self::Exchanges | Self::EventExchanges => "e.attributes",
        }
    }

    fn property(self, name: &str) -> Property {
        let column = |text: &str, number| Property {
            text: Sql::raw(text),
            is_set: Sql::raw(format!("isNotNull({text})")),
            number,
            is_column: true,
        };
        let is_exchange = self == Self::Exchanges;
        match name {
            "tenant" => column("nullIf(CAST(e.tenant_id, 'Nullable(String)'), '')", None),
            "session" => column("e.session_id", None),
            "trace_id" => column("e.trace_id", None),
            "status_code" => column("toString(e.status_code)", Some("e.status_code")),
            "status_class" => column(
                "if(e.status_code BETWEEN 100 AND 599, concat(toString(intDiv(e.status_code, 100)), 'xx'), NULL)",
                None,
            ),
            "duration_ms" => column(
                "toString(e.duration_ns / 1e6)",
                Some("(e.duration_ns / 1e6)"),
            ),
            "route" if is_exchange => column("CAST(e.route, 'Nullable(String)')", None),
            "method" if is_exchange => column("CAST(e.method, 'Nullable(String)')", None),
            _ => Property {
                text: Sql::fill(&format!("{}[{{}}]", self.map()), [Sql::text(name)]),
                is_set: Sql::fill(
                    &format!("mapContains({}, {{}})", self.map()),
                    [Sql::text(name)],
                ),
                number: None,
                is_column: false,
            },
        }
    }

    /// Whether a condition holds, 0 or 1.
    pub(super) fn holds(self, condition: &Condition) -> Sql {
        let property = self.property(&condition.property);
        let Some(body) = body(&property, condition) else {
            return Sql::raw("0");
        };
        let asks_if_set = matches!(condition.op, Op::IsSet | Op::IsNotSet);
        // Where the empty text does not pass, a missing key does not either: one look into the map is enough.
        if asks_if_set || !(property.is_column || Test::compile(condition).holds(Some(""))) {
            body
        } else if property.is_column {
            Sql::fill("ifNull({}, 0)", [body])
        } else {
            Sql::fill("({} AND {})", [property.is_set, body])
        }
    }

    /// Whether all conditions hold; `None` if there are none.
    pub(super) fn all_hold(self, conditions: &[Condition]) -> Option<Sql> {
        let each: Vec<Sql> = conditions
            .iter()
            .map(|condition| self.holds(condition))
            .collect();
        (!each.is_empty()).then(|| Sql::fill("({})", [Sql::join(each, " AND ")]))
    }

    /// The value of a breakdown: the properties' texts joined by `|`; empty when all are.
    pub(super) fn value(self, properties: &[String]) -> Sql {
        let text = |name: &String| {
            let property = self.property(name);
            Sql::fill("toValidUTF8(ifNull({}, ''))", [property.text])
        };
        match properties {
            [one] => text(one),
            several => {
                let texts = Sql::join(several.iter().map(text), ", ");
                Sql::fill(
                    "if(empty(arrayStringConcat([{}])), '', arrayStringConcat([{}], '|'))",
                    [texts.clone(), texts],
                )
            }
        }
    }
}

/// The comparison with a text that is set; `None` if the value does not suit the operator, so that it never holds.
fn body(property: &Property, condition: &Condition) -> Option<Sql> {
    let (op, value) = (condition.op, &condition.value);
    let wanted = text_of(value).map(|text| Sql::text(text.into_owned()));
    // What is not UTF-8 in the store reads as U+FFFD. That matters only where a part of a text is looked at, or where
    // that very character is looked for.
    let readable = |text: Sql| Sql::fill("toValidUTF8({})", [text]);
    let text = || {
        let odd = |value: &Value| value.to_string().contains('\u{fffd}');
        if odd(value) {
            readable(property.text.clone())
        } else {
            property.text.clone()
        }
    };
    let compare = |sign: &str| {
        Some(Sql::fill(
            &format!("{{}} {sign} {{}}"),
            [text(), wanted.clone()?],
        ))
    };
    let part = |found: &str| {
        let wanted = Sql::text(text_of(value)?.to_lowercase());
        let lower = Sql::fill("lowerUTF8({})", [readable(property.text.clone())]);
        Some(Sql::fill(
            &format!("(position({{}}, {{}}) {found} 0)"),
            [lower, wanted],
        ))
    };
    let listed = |word: &str| {
        let texts = value.as_array()?.iter().filter_map(text_of);
        let wanted = Sql::texts(texts.map(std::borrow::Cow::into_owned));
        Some(Sql::fill(&format!("({{}} {word} {{}})"), [text(), wanted]))
    };
    match op {
        Op::Eq => compare("="),
        Op::Ne => compare("!="),
        Op::Gt => number(property, ">", value),
        Op::Gte => number(property, ">=", value),
        Op::Lt => number(property, "<", value),
        Op::Lte => number(property, "<=", value),
        Op::In => listed("IN"),
        Op::NotIn => listed("NOT IN"),
        Op::Contains => part(">"),
        Op::NotContains => part("="),
        Op::IsSet => Some(property.is_set.clone()),
        Op::IsNotSet => Some(Sql::fill("(NOT {})", [property.is_set.clone()])),
        Op::Matches => {
            let pattern = Sql::text(value.as_str()?);
            Some(Sql::fill(
                "match({}, {})",
                [readable(property.text.clone()), pattern],
            ))
        }
    }
}

fn number(property: &Property, sign: &str, value: &Value) -> Option<Sql> {
    let text = text_of(value)?;
    crate::predicate::json_number(&text)?;
    let wanted = Sql::fill("toFloat64({})", [Sql::text(text.into_owned())]);
    let actual = match property.number {
        Some(column) => Sql::raw(format!("toFloat64({column})")),
        None => Sql::fill(
            "if(match({}, {}), toFloat64OrNull({}), NULL)",
            [
                property.text.clone(),
                Sql::text(NUMBER),
                property.text.clone(),
            ],
        ),
    };
    Some(Sql::fill(
        &format!("ifNull({{}} {sign} {{}}, 0)"),
        [actual, wanted],
    ))
}
