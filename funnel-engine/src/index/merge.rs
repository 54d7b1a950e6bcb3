//! Merging segments of one tenant into one: the file is the same as if it had been built from all rows at once.

use super::{
    error::SegmentError,
    meta::{Source, UNITS, coalesce},
    runs::{Run, Runs},
    segment::Segment,
    writer::{Builder, Frame, Output},
};

/// Sources of the merged segment.
pub(super) fn merged_sources(inputs: &[&Segment]) -> Vec<Source> {
    let sources = inputs.iter().flat_map(|input| &input.meta().sources);
    coalesce(sources.cloned().collect())
}

/// Writes the merged segment; returns the output and the seal.
pub(super) fn merge<O: Output>(inputs: &[&Segment], output: O) -> Result<(O, u32), O::Error> {
    let metas = || {
        let metas = inputs.iter().map(|input| input.meta());
        metas.filter(|meta| meta.events > 0)
    };
    let frame = Frame {
        min_ns: metas().map(|meta| meta.min_ns).min().unwrap_or(0),
        max_ns: metas().map(|meta| meta.max_ns).max().unwrap_or(0),
        wide_codes: metas().any(|meta| meta.wide_codes),
    };
    // Units divide each other, and the first time of each input is an event: what divides the distances between the
    // inputs and within each of them divides all.
    let fits = |unit: &u64| {
        metas().all(|meta| {
            meta.unit_ns.is_multiple_of(*unit) && frame.distance(meta.min_ns).is_multiple_of(*unit)
        })
    };
    let unit = UNITS.into_iter().find(fits).unwrap_or(1);
    let mut builder = Builder::new(frame, unit, merged_sources(inputs), output)?;
    let mut cursors: Vec<Runs<'_>> = inputs.iter().map(|input| Runs::new(input)).collect();
    for cursor in &mut cursors {
        cursor.advance()?;
    }
    let mut events = Vec::new();
    while let Some(user) = cursors.iter().filter_map(Runs::user).min() {
        builder.begin_run(user)?;
        let mut runs = cursors
            .iter()
            .filter(|cursor| cursor.user() == Some(user))
            .filter_map(Runs::run);
        match (runs.next(), runs.next()) {
            (Some(only), None) => push(&mut builder, &only),
            (first, second) => {
                for run in first.into_iter().chain(second).chain(runs) {
                    events.extend(
                        run.events
                            .clone()
                            .map(|event| (run.times.get(event), run.codes.get(event))),
                    );
                }
                events.sort_unstable();
                for (at_ns, name) in events.drain(..) {
                    builder.push(at_ns, name);
                }
            }
        }
        advance(&mut cursors, user)?;
    }
    builder.finish()
}

fn push<O: Output>(builder: &mut Builder<O>, run: &Run<'_>) {
    for event in run.events.clone() {
        builder.push(run.times.get(event), run.codes.get(event));
    }
}

fn advance(cursors: &mut [Runs<'_>], user: u32) -> Result<(), SegmentError> {
    for cursor in cursors {
        if cursor.user() == Some(user) {
            cursor.advance()?;
        }
    }
    Ok(())
}
