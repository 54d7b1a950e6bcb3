//! Little-endian numbers and texts, written to and read from memory. Reading never trusts a length.

use super::error::SegmentError;

/// Writes into memory.
#[derive(Default)]
pub(super) struct Sheet(pub(super) Vec<u8>);

impl Sheet {
    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.0.extend(value.to_le_bytes());
    }

    /// A count, which the caller's bounds keep below 2^64.
    pub(super) fn count(&mut self, count: usize) {
        self.u64(count as u64);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend(text.as_bytes());
    }
}

/// Reads from memory, front to back.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Input<'a> {
    /// `what` names the bytes in an error.
    pub(super) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(super) fn short(&self) -> SegmentError {
        SegmentError::corrupt(format!("{} is cut short", self.what))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SegmentError> {
        let (head, tail) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| self.short())?;
        self.rest = tail;
        Ok(*head)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], SegmentError> {
        let (head, tail) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.short())?;
        self.rest = tail;
        Ok(head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, SegmentError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, SegmentError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, SegmentError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, SegmentError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, SegmentError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, SegmentError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// How many entries follow, each of at least `least_bytes`: never more than the bytes left allow, so that a count
    /// may size a buffer.
    pub(super) fn count(&mut self, least_bytes: usize) -> Result<usize, SegmentError> {
        let count = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        match count.checked_mul(least_bytes.max(1)) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            Some(_) | None => Err(self.short()),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, SegmentError> {
        let bytes = self.count(1)?;
        let bytes = self.bytes(bytes)?.to_vec();
        String::from_utf8(bytes).map_err(|error| {
            SegmentError::corrupt(format!("{} holds no UTF-8: {error}", self.what))
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// # Errors
    /// Bytes are left over.
    pub(super) fn end(&self) -> Result<(), SegmentError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(SegmentError::corrupt(format!(
            "{} is {} bytes too long",
            self.what,
            self.rest.len()
        )))
    }
}
