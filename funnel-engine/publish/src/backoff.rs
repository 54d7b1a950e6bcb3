//! How long to wait before the next attempt.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Attempts and the waits between them. The wait doubles each time up to the longest; of it, a share between a half and
/// the whole is waited, which differs from delivery to delivery, so that many do not come back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// At least 1; after the last the delivery is given up.
    pub attempts: u32,
    /// Before the second attempt.
    pub first_wait: Duration,
    /// No wait is longer, also when the other side asks for it.
    pub longest_wait: Duration,
}

impl Default for Retry {
    /// Eight attempts within about a minute.
    fn default() -> Self {
        Self {
            attempts: 8,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
        }
    }
}

impl Retry {
    /// The wait after a failed attempt, counted from 1.
    pub fn wait(&self, id: Uuid, attempt: u32, asked: Option<Duration>) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let whole = self
            .first_wait
            .saturating_mul(doubled)
            .min(self.longest_wait);
        let digest = Sha256::new()
            .chain_update(id.as_bytes())
            .chain_update(attempt.to_be_bytes())
            .finalize();
        let share = u32::from(digest.first().copied().unwrap_or(0));
        let jittered = whole / 2 + whole / 2 * share / 255;
        asked.map_or(jittered, |asked| asked.max(jittered).min(self.longest_wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_differ() {
        let retry = Retry::default();
        let ids: Vec<Uuid> = (0..50).map(|_| Uuid::now_v7()).collect();
        for attempt in 1..40 {
            let whole = Duration::from_millis(500)
                .saturating_mul(2_u32.saturating_pow(attempt - 1))
                .min(Duration::from_secs(30));
            let waits: Vec<Duration> = ids
                .iter()
                .map(|id| retry.wait(*id, attempt, None))
                .collect();
            assert!(
                waits
                    .iter()
                    .all(|wait| *wait >= whole / 2 && *wait <= whole)
            );
            assert!(waits.iter().any(|wait| *wait != waits[0]));
        }
    }

    #[test]
    fn the_other_side_may_ask_for_more_but_not_for_ever() {
        let (retry, id) = (Retry::default(), Uuid::now_v7());
        let asked = |seconds| retry.wait(id, 1, Some(Duration::from_secs(seconds)));
        assert_eq!(asked(7), Duration::from_secs(7));
        assert_eq!(asked(3_600), retry.longest_wait);
        assert!(asked(0) >= Duration::from_millis(250));
    }
}
