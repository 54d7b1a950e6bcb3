//! Reading everything again: does the index hold together?
//!
//! Ordinary reading checks checksums. This also checks what checksums cannot: that what was written is what the format
//! promises.

use std::collections::BTreeMap;

use super::{
    Index,
    dictionaries::Dictionaries,
    directory::{BlockHead, NameSet},
    error::{IndexError, SegmentError},
    files::{MANIFEST, properties_name, segment_name},
    manifest::{Manifest, TenantEntry},
    open::open_segment,
    runs::Runs,
    segment::Segment,
    writer::EventRow,
};

/// What was read again and found in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Tenants.
    pub tenants: u64,
    /// Segments.
    pub segments: u64,
    /// Events.
    pub events: u64,
    /// Property columns.
    pub columns: u64,
}

impl Index {
    /// Reads all files again, every byte, and reports the first that is not in order.
    ///
    /// # Errors
    /// `Rebuild` names the file and what is wrong with it.
    pub fn verify(&self) -> Result<Verified, IndexError> {
        let bytes = self.files.read(MANIFEST)?;
        let manifest = match bytes {
            Some(bytes) => {
                Manifest::decode(&bytes).map_err(|error| IndexError::rebuild(MANIFEST, error))?
            }
            None => Manifest::default(),
        };
        if manifest.tenants != self.manifest.tenants {
            return Err(IndexError::rebuild(MANIFEST, "it is not the one in use"));
        }
        let mut verified = Verified::default();
        for entry in manifest.tenants.values() {
            verified.tenants += 1;
            self.verify_tenant(entry, &mut verified)?;
        }
        Ok(verified)
    }

    fn verify_tenant(
        &self,
        entry: &TenantEntry,
        verified: &mut Verified,
    ) -> Result<(), IndexError> {
        let dictionaries = Dictionaries::load(&self.files, entry)?;
        for own in &entry.segments {
            let segment = open_segment(&self.files, own, &dictionaries)?;
            segment
                .verify()
                .map_err(|error| IndexError::rebuild(segment_name(own.file), error))?;
            verified.segments += 1;
            verified.events += segment.meta().events;
            for file in &segment.properties {
                for column in 0..file.columns() {
                    file.load(column).map_err(|error| {
                        IndexError::rebuild(properties_name(own.file, file.generation), error)
                    })?;
                    verified.columns += 1;
                }
            }
        }
        Ok(())
    }
}

impl Segment {
    /// Reads every block again, and holds order, counts, bounds and names against what the file says of itself.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn verify(&self) -> Result<(), SegmentError> {
        self.forget_checks();
        let meta = self.meta();
        let mut counts = BTreeMap::new();
        let (mut min_ns, mut max_ns) = (i64::MAX, i64::MIN);
        let mut last: Option<EventRow> = None;
        let mut names = BlockNames::default();
        let mut runs = Runs::new(self);
        while runs.advance()? {
            let Some(run) = runs.run() else { break };
            names.turn_to(self, run.first_event)?;
            for event in run.events {
                let (at_ns, name) = (run.times.get(event), run.codes.get(event));
                let row = EventRow::new(run.user, at_ns, name);
                if last.is_some_and(|last| last > row) {
                    return Err(SegmentError::corrupt("order of events"));
                }
                last = Some(row);
                min_ns = min_ns.min(at_ns);
                max_ns = max_ns.max(at_ns);
                *counts.entry(name).or_insert(0_u64) += 1;
                names.found.insert(name);
            }
        }
        names.check(self)?;
        if !counts.into_iter().eq(meta.name_counts.iter().copied()) {
            return Err(SegmentError::corrupt("counts of names"));
        }
        if meta.events > 0 && (min_ns, max_ns) != (meta.min_ns, meta.max_ns) {
            return Err(SegmentError::corrupt("first or last time"));
        }
        Ok(())
    }
}

/// The names found in a block.
#[derive(Default)]
struct BlockNames {
    block: usize,
    found: NameSet,
}

impl BlockNames {
    /// The events that follow are of the block that begins with `first_event`.
    fn turn_to(&mut self, segment: &Segment, first_event: u64) -> Result<(), SegmentError> {
        let begins = segment.head(self.block).map(|head| head.first_event);
        if begins != Some(first_event) {
            self.check(segment)?;
            self.block += 1;
            self.found = NameSet::default();
        }
        Ok(())
    }

    fn check(&self, segment: &Segment) -> Result<(), SegmentError> {
        let empty = BlockHead::default();
        let head = segment.head(self.block).unwrap_or(&empty);
        if head.names != self.found {
            return Err(SegmentError::corrupt("names of a block"));
        }
        Ok(())
    }
}
