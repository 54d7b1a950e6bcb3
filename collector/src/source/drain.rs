//! The ring to drain, and the hints that go back: all that the capture thread needs of the kernel side.

use aya::maps::{HashMap as BpfHashMap, MapData, RingBuf};
use ebpf_probes::abi::FlowKey;

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

/// Takes records out of the ring.
pub struct RecordDrain {
    ring: RingBuf<MapData>,
    skips: BpfHashMap<MapData, FlowKeyPod, u32>,
}

impl std::fmt::Debug for RecordDrain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordDrain").finish_non_exhaustive()
    }
}

impl RecordDrain {
    pub(super) const fn new(
        ring: RingBuf<MapData>,
        skips: BpfHashMap<MapData, FlowKeyPod, u32>,
    ) -> Self {
        Self { ring, skips }
    }

    /// Takes records until the ring is empty or `enough` are taken. Returns how many were.
    pub fn drain(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Option<SkipHint>,
        enough: usize,
    ) -> usize {
        let mut taken = 0;
        while taken < enough {
            let Some(record) = self.ring.next() else {
                break;
            };
            let hint = take(&record);
            drop(record);
            taken += 1;
            if let Some(hint) = hint {
                // A hint that does not arrive costs copying, nothing else.
                if let Err(error) = self.skips.insert(FlowKeyPod(hint.flow), hint.until, 0) {
                    tracing::debug!(%error, "a skip hint was not taken");
                }
            }
        }
        taken
    }
}
