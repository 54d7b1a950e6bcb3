//! How much the index holds, and where the bytes go.

use super::{Index, segment::SegmentSizes, snapshot::Listed};

/// Figures of an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Tenants that are indexed.
    pub tenants: u64,
    /// Tenants that are not, because they passed a bound.
    pub refused: u64,
    /// Events.
    pub events: u64,
    /// Users, summed over tenants.
    pub users: u64,
    /// Event names, summed over tenants.
    pub names: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes of segments on disk, by what they hold.
    pub segment_bytes: SegmentSizes,
    /// Bytes of user dictionaries on disk.
    pub user_bytes: u64,
    /// Bytes of name dictionaries on disk.
    pub name_bytes: u64,
    /// Bytes of property columns on disk.
    pub property_bytes: u64,
    /// Bytes of memory that the user dictionaries take.
    pub user_memory_bytes: u64,
    /// Files that could not be removed; the next opening removes them.
    pub left_behind: u64,
}

impl IndexStats {
    /// All bytes on disk but the manifest.
    pub fn bytes(&self) -> u64 {
        let SegmentSizes {
            runs,
            codes,
            times,
            other,
        } = self.segment_bytes;
        let segments = runs + codes + times + other;
        segments + self.user_bytes + self.name_bytes + self.property_bytes
    }
}

impl Index {
    /// Figures of the index as it is.
    pub fn stats(&self) -> IndexStats {
        let mut stats = IndexStats {
            left_behind: self.left_behind,
            ..IndexStats::default()
        };
        for entry in self.manifest.tenants.values() {
            stats.refused += u64::from(entry.refused.is_some());
            stats.tenants += u64::from(entry.refused.is_none());
            stats.users += u64::from(entry.users.extent.texts);
            stats.names += u64::from(entry.names.extent.texts);
            stats.user_bytes += entry.users.extent.bytes;
            stats.name_bytes += entry.names.extent.bytes;
            for segment in &entry.segments {
                stats.segments += 1;
                stats.events += segment.events;
                let properties = segment.properties.iter();
                stats.property_bytes += properties.map(|file| file.bytes).sum::<u64>();
            }
        }
        for dictionaries in self.dictionaries.values() {
            stats.user_memory_bytes += dictionaries.users.memory_bytes();
        }
        for listed in self.published().tenants.values() {
            if let Listed::Held(tenant) = listed {
                for segment in &tenant.segments {
                    let sizes = segment.sizes();
                    stats.segment_bytes.runs += sizes.runs;
                    stats.segment_bytes.codes += sizes.codes;
                    stats.segment_bytes.times += sizes.times;
                    stats.segment_bytes.other += sizes.other;
                }
            }
        }
        stats
    }
}
