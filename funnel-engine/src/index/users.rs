//! The user dictionary of a tenant: id to code and back. Codes are given in order of first appearance and never taken
//! away again.
//!
//! In memory a user takes its id, 4 bytes for where the id ends, and 10.7 to 21.3 bytes in the hash table: some 30
//! bytes for an id of 8, some 57 for a UUID. Texts lie in chunks that snapshots share; only the last, unfinished chunk
//! is copied when users are added while a snapshot holds it.

use std::{
    hash::BuildHasher as _,
    sync::{Arc, PoisonError, RwLock},
};

use super::{
    error::SegmentError,
    frames::TEXT_BYTES_MAX,
    hashes::{CODES_MAX, HalfHash, Hashes},
};

const CHUNK_BITS: u32 = 14;
const CHUNK_USERS: u32 = 1 << CHUNK_BITS;

/// 16,384 ids. At most 65,535 bytes each, so that all ends fit u32.
#[derive(Clone, Default)]
struct Chunk {
    texts: String,
    ends: Vec<u32>,
}

impl Chunk {
    fn text(&self, index: u32) -> Option<&str> {
        let index = index as usize;
        let end = *self.ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.texts.get(start..end)
    }
}

#[derive(Clone, Default)]
struct Texts {
    chunks: Vec<Arc<Chunk>>,
    count: u32,
}

impl Texts {
    #[inline]
    fn text(&self, code: u32) -> Option<&str> {
        self.chunks
            .get((code >> CHUNK_BITS) as usize)?
            .text(code & (CHUNK_USERS - 1))
    }

    fn push(&mut self, text: &str) -> Result<u32, SegmentError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(SegmentError::limit(format!(
                "a user id has {} bytes, more than {TEXT_BYTES_MAX}",
                text.len()
            )));
        }
        if self.count >= CODES_MAX {
            return Err(SegmentError::limit(format!("more than {CODES_MAX} users")));
        }
        let full = self
            .chunks
            .last()
            .is_none_or(|chunk| chunk.ends.len() >= CHUNK_USERS as usize);
        if full {
            self.chunks.push(Arc::default());
        }
        if let Some(chunk) = self.chunks.last_mut() {
            let chunk = Arc::make_mut(chunk);
            chunk.texts.push_str(text);
            let end = u32::try_from(chunk.texts.len()).unwrap_or(u32::MAX);
            chunk.ends.push(end);
        }
        self.count += 1;
        Ok(self.count - 1)
    }
}

type Shared = Arc<RwLock<Hashes>>;

/// The dictionary as its one writer has it.
pub struct Users {
    texts: Texts,
    hashes: Shared,
    /// Seeded anew in every process: ids come from strangers, who could make a fixed hash collide.
    hasher: foldhash::quality::RandomState,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            texts: Texts::default(),
            hashes: Arc::new(RwLock::new(Hashes::new())),
            hasher: foldhash::quality::RandomState::default(),
        }
    }
}

impl Users {
    /// The user's code; a new one for a new user.
    ///
    /// # Errors
    /// The id has more than 65,535 bytes, or there are 3,221,225,472 users.
    pub fn code(&mut self, id: &str) -> Result<u32, SegmentError> {
        let mut hashes = self.hashes.write().unwrap_or_else(PoisonError::into_inner);
        code_of(id, &self.hasher, &mut self.texts, &mut hashes)
    }

    /// The codes of many ids, with new ones for new users; stops at the first error.
    ///
    /// # Errors
    /// As `code`.
    pub(super) fn codes<'a, I: Iterator<Item = &'a str>>(
        &mut self,
        ids: I,
        mut take: impl FnMut(u32),
    ) -> Result<(), SegmentError> {
        let mut hashes = self.hashes.write().unwrap_or_else(PoisonError::into_inner);
        let mut last: Option<(&str, u32)> = None;
        for id in ids {
            // The store gives rows in order of users, so that one's rows often follow each other.
            let code = match last {
                Some((before, code)) if before == id => code,
                Some(_) | None => code_of(id, &self.hasher, &mut self.texts, &mut hashes)?,
            };
            last = Some((id, code));
            take(code);
        }
        Ok(())
    }

    /// Number of users.
    pub fn len(&self) -> u32 {
        self.texts.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.count == 0
    }

    /// The dictionary as it is now; what is added later does not show.
    pub fn view(&self) -> UsersView {
        UsersView {
            texts: self.texts.clone(),
            hashes: Arc::clone(&self.hashes),
            hasher: self.hasher.clone(),
        }
    }

    /// Ids from a code on.
    pub(super) fn from(&self, code: u32) -> impl Iterator<Item = &str> {
        (code..self.texts.count).filter_map(|code| self.texts.text(code))
    }

    /// Bytes of memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        let chunks = self.texts.chunks.iter();
        let texts: usize = chunks
            .map(|chunk| chunk.texts.capacity() + chunk.ends.capacity() * size_of::<u32>())
            .sum();
        let hashes = self.hashes.read().unwrap_or_else(PoisonError::into_inner);
        texts as u64 + hashes.bytes()
    }
}

#[inline]
fn code_of(
    id: &str,
    hasher: &foldhash::quality::RandomState,
    texts: &mut Texts,
    table: &mut Hashes,
) -> Result<u32, SegmentError> {
    let half = HalfHash::of(hasher.hash_one(id));
    if let Some(code) = table.find(half, |code| texts.text(code) == Some(id)) {
        return Ok(code);
    }
    let code = texts.push(id)?;
    table.insert(half, code);
    Ok(code)
}

/// The dictionary at one moment; cheap to clone.
#[derive(Clone)]
pub struct UsersView {
    texts: Texts,
    hashes: Shared,
    hasher: foldhash::quality::RandomState,
}

impl UsersView {
    /// The user's id.
    pub fn id(&self, code: u32) -> Option<&str> {
        self.texts.text(code)
    }

    /// The code of an id, if the user was known at that moment. Waits while a batch's users are looked up.
    pub fn code(&self, id: &str) -> Option<u32> {
        let half = HalfHash::of(self.hasher.hash_one(id));
        let hashes = self.hashes.read().unwrap_or_else(PoisonError::into_inner);
        hashes.find(half, |code| self.texts.text(code) == Some(id))
    }

    /// Number of users.
    pub fn len(&self) -> u32 {
        self.texts.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_first_appearance_and_lead_back() {
        let mut users = Users::default();
        let ids: Vec<String> = (0..50_000)
            .map(|id| format!("u{}", id * 7 % 50_000))
            .collect();
        for (code, id) in (0..).zip(&ids) {
            assert_eq!(users.code(id), Ok(code));
        }
        let view = users.view();
        for (code, id) in (0..).zip(&ids) {
            assert_eq!(users.code(id), Ok(code));
            assert_eq!(
                (view.code(id), view.id(code)),
                (Some(code), Some(id.as_str()))
            );
        }
        assert_eq!(
            (view.len(), view.id(50_000), view.code("x")),
            (50_000, None, None)
        );
    }

    #[test]
    fn a_view_does_not_see_later_users() {
        let mut users = Users::default();
        assert_eq!(users.code("a"), Ok(0));
        let view = users.view();
        assert_eq!(users.code("b"), Ok(1));
        assert_eq!((view.len(), view.id(1), view.code("b")), (1, None, None));
        assert_eq!((view.code("a"), view.id(0)), (Some(0), Some("a")));
        assert_eq!(users.from(1).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn odd_ids_are_told_apart() {
        let mut users = Users::default();
        let long = "x".repeat(TEXT_BYTES_MAX);
        for (code, id) in (0..).zip(["", " ", "\0", "ü", "u", &long]) {
            assert_eq!(users.code(id), Ok(code));
        }
        assert!(users.code(&format!("{long}x")).is_err());
        assert_eq!(users.view().id(0), Some(""));
        assert_eq!(users.len(), 6);
    }
}
