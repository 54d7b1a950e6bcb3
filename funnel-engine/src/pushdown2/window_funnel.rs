//! `clickhouse` order: the level of each subject is what `windowFunnel` says.

use super::{
    source::{Detail, Source},
    sql::{Sql, list},
};
use crate::shape::Shape;

/// The function takes no more conditions.
pub(super) const STEPS_MAX: usize = 32;

/// As [`levels::attempts`](super::levels::attempts), without times.
pub(super) fn attempts(source: &Source<'_>, shape: &Shape, detail: Detail, per_value: bool) -> Sql {
    let modes = shape.modes.iter().map(|mode| format!(", '{}'", mode.as_str()));
    let conditions = list((0..shape.steps).map(|bit| format!("bitTest(x_fills, {bit})")));
    let level = Sql::raw(format!(
        "windowFunnel({}{})(x_at, {conditions}) AS level, CAST([], 'Array(UInt64)') AS times",
        shape.window_ns,
        modes.collect::<String>()
    ));
    source.grouped(vec![level], detail, per_value)
}
