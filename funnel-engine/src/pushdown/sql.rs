//! A statement's text together with what is bound to it, so that parts can be put together in any order.
//!
//! Owns: keeping text and values in step, sending them, and showing them. Refuses: values in the text. The text is
//! this crate's own and holds numbers at most; names, values and tenants travel as parameters.

use clickhouse::{Client, query::Query};

/// A value that stands beside the text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Bound {
    Text(String),
    Texts(Vec<String>),
    Number(i64),
}

/// Text with a `?` for each value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sql {
    text: String,
    bound: Vec<Bound>,
}

impl Sql {
    /// Text of this crate; it holds no question mark.
    pub(super) fn raw(text: impl Into<String>) -> Self {
        let text = text.into();
        debug_assert!(!text.contains('?'), "a `?` is a value: {text}");
        Self {
            text,
            bound: Vec::new(),
        }
    }

    /// A text from outside.
    pub(super) fn text(value: impl Into<String>) -> Self {
        Self::bound(Bound::Text(value.into()))
    }

    /// Texts from outside, as an array.
    pub(super) fn texts<T: Into<String>>(values: impl IntoIterator<Item = T>) -> Self {
        Self::bound(Bound::Texts(values.into_iter().map(Into::into).collect()))
    }

    /// A number from outside.
    pub(super) fn number(value: i64) -> Self {
        Self::bound(Bound::Number(value))
    }

    fn bound(value: Bound) -> Self {
        Self {
            text: "?".to_owned(),
            bound: vec![value],
        }
    }

    /// Puts parts into the `{}` of a template, in order. Parts beyond the last place are left out.
    pub(super) fn fill(template: &str, parts: impl IntoIterator<Item = Self>) -> Self {
        let mut parts = parts.into_iter();
        let mut pieces = template.split("{}");
        let mut whole = Self::raw(pieces.next().unwrap_or_default());
        for piece in pieces {
            let part = parts.next();
            debug_assert!(part.is_some(), "a part is missing: {template}");
            whole = whole.then(part.unwrap_or_default()).then(Self::raw(piece));
        }
        debug_assert!(parts.next().is_none(), "a part is left over: {template}");
        whole
    }

    /// Followed by another part.
    #[must_use]
    pub(super) fn then(mut self, next: Self) -> Self {
        self.text.push_str(&next.text);
        self.bound.extend(next.bound);
        self
    }

    /// Parts with a text between each two.
    pub(super) fn join(parts: impl IntoIterator<Item = Self>, between: &str) -> Self {
        let mut parts = parts.into_iter();
        let first = parts.next().unwrap_or_default();
        parts.fold(first, |whole, part| {
            whole.then(Self::raw(between)).then(part)
        })
    }

    /// The query that asks this; the client's own binding escapes what is bound.
    pub(super) fn query(&self, client: &Client) -> Query {
        let query = client.query(&self.text);
        self.bound.iter().fold(query, |query, value| match value {
            Bound::Text(text) => query.bind(text),
            Bound::Texts(texts) => query.bind(texts),
            Bound::Number(number) => query.bind(number),
        })
    }

    /// The text with its values in place, to be read by people.
    pub(super) fn shown(&self) -> String {
        let mut shown = String::with_capacity(self.text.len());
        let mut bound = self.bound.iter();
        for (index, piece) in self.text.split('?').enumerate() {
            if index > 0 {
                shown.push_str(&bound.next().map_or_else(String::new, Bound::shown));
            }
            shown.push_str(piece);
        }
        shown
    }
}

impl Bound {
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Texts(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                format!("[{}]", texts.join(", "))
            }
            Self::Number(number) => number.to_string(),
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Pieces of text with commas between.
pub(super) fn list(pieces: impl IntoIterator<Item = String>) -> String {
    pieces.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_the_order_of_their_places() {
        let inner = Sql::fill("b = {}", [Sql::text("it's")]);
        let whole = Sql::fill(
            "SELECT {} WHERE {} AND {}",
            [
                Sql::texts(["x", "y"]),
                inner,
                Sql::join([Sql::raw("1"), Sql::number(-5)], " < "),
            ],
        );
        assert_eq!(whole.text, "SELECT ? WHERE b = ? AND 1 < ?");
        assert_eq!(
            whole.shown(),
            r"SELECT ['x', 'y'] WHERE b = 'it\'s' AND 1 < -5"
        );
    }

    #[test]
    fn a_question_mark_in_a_value_is_no_place() {
        let whole = Sql::fill("{} {}", [Sql::text("a?b\\"), Sql::number(1)]);
        assert_eq!(whole.shown(), r"'a?b\\' 1");
    }
}
