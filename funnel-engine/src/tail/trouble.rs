//! What can keep the tail from going on, and how long it then waits.

use std::time::Duration;

use event_store::StoreError;

use super::writer::IndexFailure;

const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// The tail cannot go on for now.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The store is away or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store does not answer.
    #[error("the store did not answer within {} s; it is asked again", .0.as_secs())]
    Slow(Duration),
    /// There is nothing to tail.
    #[error("the store has no table `events`: run `event-store migrate`")]
    NoTable,
    /// The rows of the table lose their places when parts are merged.
    #[error("the rows of `events` do not keep their places: run `event-store migrate`")]
    NoPlaces,
    /// Rows of such a table become visible out of order.
    #[error(
        "`events` is a {0}, and only a MergeTree can be tailed: answer funnels with the clickhouse backend instead"
    )]
    Engine(String),
    /// The index does not take the events.
    #[error("the index does not take events: {0}")]
    Index(IndexFailure),
}

/// The first wait, doubled with every failure.
pub(crate) fn back_off(first: Duration, failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures.min(16));
    first.saturating_mul(factor).min(BACK_OFF_MAX)
}

/// An answer of the store, or the error that it does not come.
pub(crate) async fn within<T>(
    limit: Duration,
    asking: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, TailError> {
    match tokio::time::timeout(limit, asking).await {
        Ok(answer) => Ok(answer?),
        Err(_elapsed) => Err(TailError::Slow(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_make_it_wait_longer_up_to_half_a_minute() {
        let waits: Vec<u64> = [0, 1, 2, 5, 6, u32::MAX]
            .map(|failures| {
                u64::try_from(back_off(Duration::from_millis(500), failures).as_millis()).unwrap()
            })
            .to_vec();
        assert_eq!(waits, [500, 1_000, 2_000, 16_000, 30_000, 30_000]);
    }
}
