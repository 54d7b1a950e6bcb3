//! `clickhouse` order: the level of each subject is what `windowFunnel` says.

use super::{
    source::{Detail, Source},
    sql::{Sql, list},
};
use crate::shape::Shape;

/// The function takes no more conditions.
pub(super) const STEPS_MAX: usize = 32;

/// As [`levels::attempts`](super::levels::attempts), without times.
pub(super) fn attempts(source: &Source<'_>, shape: &Shape, carry: &str, detail: Detail) -> Sql {
    let modes = shape
        .modes
        .iter()
        .map(|mode| format!(", '{}'", mode.as_str()));
    let conditions = list((0..shape.steps).map(|bit| format!("bitTest(x_fills, {bit})")));
    let level = Sql::raw(format!(
        "windowFunnel({}{})(x_at, {conditions}) AS level",
        shape.window_ns,
        modes.collect::<String>()
    ));
    let grouped = source.grouped(vec![level], detail);
    let Some(seen) = source.seen(detail) else {
        return grouped;
    };
    let template = format!(
        "SELECT {}, level, {seen} FROM ({{}})",
        carry.replace(", seen", "")
    );
    Sql::fill(&template, [grouped])
}
