//! The two tables of HPACK (RFC 7541, 2.3 and appendix A): fixed fields, and fields that were sent before.
//!
//! An observer may keep more than the encoder does without harm: indices count from the newest field, and an encoder
//! never refers to one it has dropped.

use std::collections::VecDeque;

/// What each field of the dynamic table costs besides its bytes (RFC 7541, 4.1).
const FIELD_OVERHEAD_BYTES: usize = 32;
/// Dropped bytes that may lie in front of the live ones before they are cleared away.
const DEAD_BYTES_MIN: usize = 4 * 1024;

/// Fields with the indices 1 to 61.
pub(super) const STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// A string of a field: its bytes, or only its length where they were not seen or not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text<'a> {
    Known(&'a [u8]),
    Unknown { bytes: usize },
}

impl<'a> Text<'a> {
    const fn len(self) -> usize {
        match self {
            Self::Known(text) => text.len(),
            Self::Unknown { bytes } => bytes,
        }
    }

    /// The bytes to store; none for an unknown text.
    const fn stored(self) -> &'a [u8] {
        match self {
            Self::Known(text) => text,
            Self::Unknown { .. } => &[],
        }
    }

    const fn slot(self) -> Slot {
        Slot {
            bytes: self.len(),
            stored: matches!(self, Self::Known(_)),
        }
    }
}

/// One string of a stored field.
#[derive(Clone, Copy, Debug)]
struct Slot {
    bytes: usize,
    stored: bool,
}

impl Slot {
    const fn stored_bytes(self) -> usize {
        if self.stored { self.bytes } else { 0 }
    }

    /// Takes this string off the front of `rest`.
    fn read<'a>(self, rest: &mut &'a [u8]) -> Text<'a> {
        match rest.split_off(..self.stored_bytes()) {
            Some(text) if self.stored => Text::Known(text),
            Some(_) | None => Text::Unknown { bytes: self.bytes },
        }
    }
}

/// A field; its name and value lie one after the other in `DynamicTable::bytes`.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Position counted from the first byte ever stored.
    start: usize,
    name: Slot,
    value: Slot,
}

impl Entry {
    const fn size(&self) -> usize {
        self.name.bytes + self.value.bytes + FIELD_OVERHEAD_BYTES
    }
}

/// The fields sent before, newest first.
#[derive(Debug)]
pub(super) struct DynamicTable {
    entries: VecDeque<Entry>,
    /// Strings in order of insertion, dropped ones in front. One buffer, so that a field costs no allocation.
    bytes: Vec<u8>,
    /// Position of the first of `bytes`.
    base: usize,
    size: usize,
    size_max: usize,
}

impl DynamicTable {
    pub(super) const fn new(size_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: Vec::new(),
            base: 0,
            size: 0,
            size_max,
        }
    }

    /// The field with this place, 0 being the newest: name and value.
    pub(super) fn get(&self, place: usize) -> Option<(Text<'_>, Text<'_>)> {
        let entry = self.entries.get(place)?;
        let mut rest = self.bytes.get(entry.start.checked_sub(self.base)?..)?;
        let name = entry.name.read(&mut rest);
        Some((name, entry.value.read(&mut rest)))
    }

    /// Adds a field in front and drops old ones to make room; a field larger than the table empties it.
    pub(super) fn insert(&mut self, name: Text<'_>, value: Text<'_>) {
        let entry = Entry {
            start: self.base + self.bytes.len(),
            name: name.slot(),
            value: value.slot(),
        };
        let Some(room) = self.size_max.checked_sub(entry.size()) else {
            self.evict_to(0);
            return;
        };
        self.evict_to(room);
        self.bytes.extend_from_slice(name.stored());
        self.bytes.extend_from_slice(value.stored());
        self.size += entry.size();
        self.entries.push_front(entry);
    }

    /// Sets the bound of the sum of the fields' sizes.
    pub(super) fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict_to(size_max);
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_back() else {
                return;
            };
            self.size -= entry.size();
        }
        let end = self.base + self.bytes.len();
        let live_from = self.entries.back().map_or(end, |oldest| oldest.start);
        let dead = live_from - self.base;
        // Moving at most as many bytes as are cleared keeps the cost of a field constant.
        if dead >= DEAD_BYTES_MIN && dead >= self.bytes.len() - dead {
            self.bytes.drain(..dead);
            self.base = live_from;
        }
    }
}

#[cfg(test)]
impl DynamicTable {
    /// Sum of the fields' sizes.
    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// Every field, newest first.
    pub(super) fn fields(&self) -> Vec<(String, String)> {
        let text = |text: Text<'_>| String::from_utf8(text.stored().to_vec()).unwrap();
        (0..self.entries.len())
            .map(|place| self.get(place).unwrap())
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table as the RFC describes it, with owned strings.
    #[derive(Default)]
    struct Model(VecDeque<(Vec<u8>, Vec<u8>)>);

    impl Model {
        fn trim(&mut self, size_max: usize) {
            let size = |model: &Self| -> usize {
                model.0.iter().map(|(n, v)| n.len() + v.len() + 32).sum()
            };
            while size(self) > size_max {
                self.0.pop_back();
            }
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_the_rfc_says(
            steps in proptest::collection::vec((0_usize..90, 0_usize..9_000, any::<u8>(), 0_usize..20), 1..120),
            first_size in 0_usize..12_000,
        ) {
            let mut size_max = first_size;
            let (mut table, mut model) = (DynamicTable::new(size_max), Model::default());
            for (name, value, fill, resize) in steps {
                if resize == 0 {
                    size_max = value;
                    table.resize(size_max);
                } else {
                    let (name, value) = (vec![fill; name], vec![!fill; value]);
                    table.insert(Text::Known(&name), Text::Known(&value));
                    model.0.push_front((name, value));
                }
                model.trim(size_max);
                for (place, (name, value)) in model.0.iter().enumerate() {
                    prop_assert_eq!(table.get(place), Some((Text::Known(name), Text::Known(value))));
                }
                prop_assert_eq!(table.get(model.0.len()), None);
                prop_assert!(table.bytes.len() <= 2 * size_max.max(first_size).max(9_000) + 2 * DEAD_BYTES_MIN + 9_090);
            }
        }
    }

    #[test]
    fn an_unknown_text_keeps_its_length() {
        let mut table = DynamicTable::new(190);
        table.insert(Text::Unknown { bytes: 90 }, Text::Known(b"v"));
        table.insert(Text::Known(b"n"), Text::Unknown { bytes: 4 });
        assert_eq!(table.size(), 90 + 1 + 32 + 1 + 4 + 32);
        assert_eq!(
            table.get(1),
            Some((Text::Unknown { bytes: 90 }, Text::Known(b"v".as_slice())))
        );
        table.insert(Text::Known(b"m"), Text::Known(b"w"));
        assert_eq!(
            table.get(1),
            Some((Text::Known(b"n".as_slice()), Text::Unknown { bytes: 4 }))
        );
        assert_eq!(table.get(2), None);
    }
}
