//! The parts of a report beside the steps: the breakdown's values and the trend's buckets, as people read them.

use std::ops::Range;

use funnel_engine::{BreakdownRow, TrendPoint, percent};

use crate::{Figure, Report, Row, document::last_required, grouped};

/// Columns of steps that fit on a page; a funnel with more steps gets several tables.
const STEPS_ABREAST: usize = 5;
/// Characters of a value that are shown; CSV, XLSX and Parquet have all.
const VALUE_SHOWN: usize = 120;
/// Characters of a step's name above its column.
const HEAD_SHOWN: usize = 40;
/// Longer words may be broken, after every so many characters, so that no cell overflows.
const WORD: usize = 16;
const PART: usize = 4;

/// The funnel of one value of the breakdown.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueRow {
    /// Several properties are joined by `|`; empty for none.
    pub value: String,
    /// One row per step.
    pub rows: Vec<Row>,
}

impl ValueRow {
    pub(crate) fn new(row: &BreakdownRow) -> Self {
        Self {
            value: row.value.clone(),
            rows: Row::all(&row.steps),
        }
    }

    /// As people read it: in words if it is empty, and not too long.
    pub fn shown(&self) -> String {
        if self.value.is_empty() {
            return "(none)".to_owned();
        }
        cut(&self.value, VALUE_SHOWN)
    }

    /// From the first to the last step that may not be skipped.
    pub fn conversion(&self) -> Option<f64> {
        last_required(&self.rows).and_then(|row| row.from_start)
    }
}

/// A table of the breakdown that fits on a page.
pub(crate) struct ValueTable {
    steps: Range<usize>,
    has_conversion: bool,
}

impl ValueTable {
    /// Headings of its columns, without that of the value.
    pub(crate) fn columns(&self, report: &Report) -> Vec<String> {
        let steps = report.rows.get(self.steps.clone()).unwrap_or_default();
        let names = steps
            .iter()
            .map(|row| format!("{}. {}", row.step, cut(&row.name, HEAD_SHOWN)));
        let conversion = self.has_conversion.then(|| "Conversion".to_owned());
        names.chain(conversion).collect()
    }

    /// The figures of a value in those columns.
    pub(crate) fn figures(&self, row: &ValueRow) -> Vec<Figure> {
        let steps = row.rows.get(self.steps.clone()).unwrap_or_default();
        let counts = steps.iter().map(|row| Figure::Count(row.count));
        let conversion = self
            .has_conversion
            .then(|| Figure::Fraction(row.conversion()));
        counts.chain(conversion).collect()
    }
}

/// Figures of a bucket: who entered, who converted, and the rate.
pub(crate) fn trend_figures(point: &TrendPoint) -> [Figure; 3] {
    [
        Figure::Count(point.entered),
        Figure::Count(point.converted),
        Figure::Fraction(point.rate()),
    ]
}

/// Names of the same, for people.
pub(crate) const TREND_COLUMNS: [&str; 3] = ["Entered", "Converted", "Rate"];

/// A bucket as people read it: `2026-01-05 00:00 +08:00`. With its offset, because an hour of autumn comes twice.
pub(crate) fn bucket_shown(bucket: &str) -> String {
    match (bucket.get(..10), bucket.get(11..16), bucket.get(19..)) {
        (Some(day), Some(time), Some(offset)) => {
            let offset = if offset == "Z" { "+00:00" } else { offset };
            format!("{day} {time} {offset}")
        }
        _ => bucket.to_owned(),
    }
}

/// A bucket below a chart: the day, and the hour where it says something.
pub(crate) fn bucket_label(bucket: &str) -> String {
    let shown = bucket_shown(bucket);
    let label = shown.get(..16).unwrap_or(&shown);
    label.strip_suffix(" 00:00").unwrap_or(label).to_owned()
}

impl Report {
    /// The breakdown's tables: the steps side by side, as many as fit; the conversion in the last.
    pub(crate) fn value_tables(&self) -> Vec<ValueTable> {
        let steps = self.rows.len();
        let starts = (0..steps).step_by(STEPS_ABREAST);
        let table = |start: usize| {
            let end = (start + STEPS_ABREAST).min(steps);
            ValueTable {
                steps: start..end,
                has_conversion: end == steps,
            }
        };
        starts.map(table).collect()
    }

    /// What the breakdown lists and what its limit left out, in words.
    pub(crate) fn breakdown_note(&self) -> String {
        let order = "Buyers at each step by value, the most frequent value first.";
        match self.breakdown_omitted {
            0 => format!("{order} All values are listed."),
            1 => format!("{order} 1 more value lies beyond the breakdown's limit and is left out."),
            omitted => format!(
                "{order} {} more values lie beyond the breakdown's limit and are left out.",
                grouped(omitted)
            ),
        }
    }

    /// The whole trend in words.
    pub(crate) fn trend_note(&self) -> String {
        let best = self.trend.iter().rev().max_by_key(|point| point.entered);
        let Some(best) = best.filter(|best| best.entered > 0) else {
            return "Nobody entered in this time.".to_owned();
        };
        format!(
            "Most buyers entered in the bucket of {}: {}, of whom {} went on.",
            bucket_shown(&best.bucket),
            grouped(best.entered),
            percent(best.rate())
        )
    }
}

/// A text of at most so many characters; what is left out shows as an ellipsis.
pub(crate) fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some(_) => {
            let kept = text.chars().take(characters.saturating_sub(1));
            kept.chain(['…']).collect()
        }
        None => text.to_owned(),
    }
}

/// With places inside long words at which a line may break.
pub(crate) fn breakable(text: &str) -> String {
    breakable_beyond(text, WORD)
}

/// The same for a narrow column: inside all words.
pub(crate) fn narrow(text: &str) -> String {
    breakable_beyond(text, PART)
}

fn breakable_beyond(text: &str, longest: usize) -> String {
    let words = text.split_inclusive(char::is_whitespace);
    let broken = words.flat_map(|word| {
        let part = if word.chars().count() > longest {
            PART
        } else {
            longest
        };
        let letters = word.chars().enumerate();
        letters.flat_map(move |(index, letter)| {
            // A space without width.
            let place = index > 0 && index.is_multiple_of(part);
            place.then_some('\u{200b}').into_iter().chain([letter])
        })
    });
    broken.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_read_easily_and_keep_their_offset() {
        for (bucket, shown, label) in [
            (
                "2026-01-05T00:00:00+08:00",
                "2026-01-05 00:00 +08:00",
                "2026-01-05",
            ),
            (
                "2026-10-25T02:00:00+02:00",
                "2026-10-25 02:00 +02:00",
                "2026-10-25 02:00",
            ),
            (
                "2026-01-05T00:00:00Z",
                "2026-01-05 00:00 +00:00",
                "2026-01-05",
            ),
            ("May", "May", "May"),
        ] {
            assert_eq!(
                (bucket_shown(bucket).as_str(), bucket_label(bucket).as_str()),
                (shown, label)
            );
        }
    }

    #[test]
    fn long_texts_are_cut_and_long_words_may_break() {
        assert_eq!(cut("abcde", 5), "abcde");
        assert_eq!(cut("abcdé!", 5), "abcd…");
        let word = "x".repeat(WORD + 1);
        assert_eq!(breakable(&word).split('\u{200b}').count(), WORD / PART + 1);
        assert_eq!(breakable(&word).replace('\u{200b}', ""), word);
        assert_eq!(narrow("to confirm"), "to conf\u{200b}irm");
        assert_eq!(breakable("short words only"), "short words only");
    }
}
