//! The ring as user space sees it: reading ahead without giving room back, so that what was read can be made safe
//! before the kernel may write over it.
//!
//! Layout (the kernel's `ringbuf.c`): one page with the consumer's position, one with the producer's, then the data,
//! mapped twice in a row so that no record is ever split. A record is a u32 length with two flag bits, a u32 of the
//! kernel's own, and its bytes, padded to eight.

use std::{
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The kernel is still writing it.
const BUSY: u32 = 1 << 31;
/// It was given up; its bytes mean nothing.
const DISCARDED: u32 = 1 << 30;
const HEADER_BYTES: usize = 8;

/// A mapping that is undone when dropped.
#[derive(Debug)]
struct Mapping {
    start: *mut core::ffi::c_void,
    bytes: usize,
}

#[expect(unsafe_code, reason = "memory that the kernel shares with us")]
// SAFETY: the pointer is to shared memory that is valid until `Drop`, from any thread.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "memory that the kernel shares with us")]
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with just this length, and nothing borrows from it any more.
        let result = unsafe { munmap(self.start, self.bytes) };
        debug_assert!(result.is_ok(), "a mapping can be undone");
    }
}

/// The reading end of a ring.
#[derive(Debug)]
pub(super) struct Ring {
    consumer: Mapping,
    producer: Mapping,
    page: usize,
    mask: usize,
    /// Read up to here; the kernel is told by [`Ring::publish`].
    position: usize,
}

impl Ring {
    /// Maps the ring behind a descriptor; reading starts where the last reader left off.
    ///
    /// # Errors
    /// When the kernel refuses to map it.
    pub(super) fn open(descriptor: impl AsFd, ring_bytes: u32) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let bytes = ring_bytes as usize;
        let consumer = map(&descriptor, page, ProtFlags::READ | ProtFlags::WRITE, 0)?;
        let producer = map(&descriptor, page + 2 * bytes, ProtFlags::READ, page as u64)?;
        let mut ring = Self {
            consumer,
            producer,
            page,
            mask: bytes - 1,
            position: 0,
        };
        ring.position = ring.consumer_position().load(Ordering::Acquire);
        Ok(ring)
    }

    /// How far was read, in bytes since the ring was made.
    pub(super) const fn position(&self) -> u64 {
        self.position as u64
    }

    /// Jumps forward to a position that an earlier reader had made safe, but not published.
    pub(super) fn skip_to(&mut self, position: u64) {
        let produced = self.produced();
        if let Ok(position) = usize::try_from(position)
            && position > self.position
            && position <= produced
        {
            self.position = position;
            self.publish();
        }
    }

    /// Reads at most `enough` records ahead. Returns how many there were.
    pub(super) fn read(&mut self, mut take: impl FnMut(&[u8]), enough: usize) -> usize {
        let produced = self.produced();
        let mut taken = 0;
        while self.position < produced && taken < enough {
            let at = self.page + (self.position & self.mask);
            let head = self.word(at).load(Ordering::Acquire);
            if head & BUSY != 0 {
                break;
            }
            let length = (head & !(BUSY | DISCARDED)) as usize;
            if head & DISCARDED == 0 {
                take(self.bytes(at + HEADER_BYTES, length));
                taken += 1;
            }
            self.position += (HEADER_BYTES + length).next_multiple_of(8);
        }
        taken
    }

    /// Gives the room of everything read back to the kernel.
    pub(super) fn publish(&self) {
        self.consumer_position()
            .store(self.position, Ordering::Release);
    }

    /// Bytes written and not yet published as read.
    pub(super) fn waiting(&self) -> u64 {
        let published = self.consumer_position().load(Ordering::Relaxed);
        self.produced().saturating_sub(published) as u64
    }

    /// Records written and not yet read.
    pub(super) fn waiting_records(&self) -> u64 {
        let produced = self.produced();
        let (mut at, mut records) = (self.position, 0);
        while at < produced {
            let head = self
                .word(self.page + (at & self.mask))
                .load(Ordering::Acquire);
            let length = (head & !(BUSY | DISCARDED)) as usize;
            records += u64::from(head & DISCARDED == 0);
            at += (HEADER_BYTES + length).next_multiple_of(8);
        }
        records
    }

    fn produced(&self) -> usize {
        Self::position_at(&self.producer).load(Ordering::Acquire)
    }

    fn consumer_position(&self) -> &AtomicUsize {
        Self::position_at(&self.consumer)
    }

    #[expect(unsafe_code, reason = "memory that the kernel shares with us")]
    const fn position_at(mapping: &Mapping) -> &AtomicUsize {
        // SAFETY: both position pages begin with an aligned unsigned long, valid as long as the mapping.
        unsafe { AtomicUsize::from_ptr(mapping.start.cast()) }
    }

    #[expect(unsafe_code, reason = "memory that the kernel shares with us")]
    fn word(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at + HEADER_BYTES <= self.producer.bytes, "inside the data");
        // SAFETY: `at` is below the end of the first copy of the data, and records are aligned to eight.
        let place = unsafe { self.producer.start.cast::<u8>().add(at) };
        // SAFETY: as above; the kernel writes this word with atomic stores.
        unsafe { AtomicU32::from_ptr(place.cast()) }
    }

    #[expect(unsafe_code, reason = "memory that the kernel shares with us")]
    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        let end = self.producer.bytes;
        let length = length.min(end.saturating_sub(at));
        // SAFETY: `at` is below the end of the first copy of the data.
        let place = unsafe { self.producer.start.cast::<u8>().add(at) };
        // SAFETY: a record lies inside the two copies of the data, and the kernel does not write to it again before
        // its room is given back, which takes `&self` to end.
        unsafe { core::slice::from_raw_parts(place, length) }
    }
}

#[expect(unsafe_code, reason = "memory that the kernel shares with us")]
fn map(
    descriptor: &impl AsFd,
    bytes: usize,
    rights: ProtFlags,
    offset: u64,
) -> io::Result<Mapping> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing of ours.
    let start = unsafe {
        mmap(
            core::ptr::null_mut(),
            bytes,
            rights,
            MapFlags::SHARED,
            descriptor,
            offset,
        )?
    };
    Ok(Mapping { start, bytes })
}
