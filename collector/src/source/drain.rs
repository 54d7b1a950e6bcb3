//! The ring to drain, and the hints that go back: all that the capture thread needs of the kernel side.

use aya::maps::{HashMap as BpfHashMap, Map, MapData};
use ebpf_probes::abi::{FlowKey, Skip, names};

use super::{kernel::SourceError, ring::Ring};
use crate::connection::SkipHint;

/// The key of the skip map as aya wants to see it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct FlowKeyPod(FlowKey);

#[expect(
    unsafe_code,
    reason = "the key crosses the kernel border as plain bytes"
)]
// SAFETY: FlowKey is repr(C), `Copy`, without padding or pointers; any bytes are a valid value.
unsafe impl aya::Pod for FlowKeyPod {}

/// Its value, likewise.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct SkipPod(Skip);

#[expect(
    unsafe_code,
    reason = "the value crosses the kernel border as plain bytes"
)]
// SAFETY: Skip is repr(C), `Copy`, without padding or pointers; any bytes are a valid value.
unsafe impl aya::Pod for SkipPod {}

/// Takes records out of the ring.
pub struct RecordDrain {
    ring: Ring,
    skips: BpfHashMap<MapData, FlowKeyPod, SkipPod>,
    _map: MapData,
}

impl std::fmt::Debug for RecordDrain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordDrain")
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}

impl RecordDrain {
    /// A drain of a ring of that many bytes.
    pub(super) fn open(
        ring: Map,
        ring_bytes: u32,
        skips: BpfHashMap<MapData, FlowKeyPod, SkipPod>,
    ) -> Result<Self, SourceError> {
        let Map::RingBuf(map) = ring else {
            return Err(SourceError::Missing(names::RING));
        };
        let ring = Ring::open(map.fd(), ring_bytes).map_err(SourceError::Ring)?;
        Ok(Self {
            ring,
            skips,
            _map: map,
        })
    }

    /// Reads at most `enough` records. Their room is not given back before [`RecordDrain::give_back`].
    pub fn read(&mut self, take: impl FnMut(&[u8]), enough: usize) -> usize {
        self.ring.read(take, enough)
    }

    /// Tells the kernel that everything read so far is safe.
    pub fn give_back(&self) {
        self.ring.publish();
    }

    /// Bytes read since the ring was made.
    pub const fn position(&self) -> u64 {
        self.ring.position()
    }

    /// Passes over what an earlier collector had made safe without giving it back.
    pub fn skip_to(&mut self, position: u64) {
        self.ring.skip_to(position);
    }

    /// Bytes that wait in the ring.
    pub fn waiting(&self) -> u64 {
        self.ring.waiting()
    }

    /// Records that wait in the ring.
    pub fn waiting_records(&self) -> u64 {
        self.ring.waiting_records()
    }

    /// Tells the kernel what need not be copied.
    pub fn hint(&mut self, hint: SkipHint) {
        // A hint that does not arrive costs copying, nothing else.
        if let Err(error) = self
            .skips
            .insert(FlowKeyPod(hint.flow), SkipPod(hint.skip), 0)
        {
            tracing::debug!(%error, "a skip hint was not taken");
        }
    }
}
