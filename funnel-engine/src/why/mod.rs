//! Why buyers drop off: drivers of one drop-off, and comparisons of two answers.
//!
//! Owns the statistics. *Drivers* ([`drivers_in_store`]): for every property of the step's event, and for every error,
//! latency band, out of stock and payment decline seen until the next step, how many of those who dropped and of those who
//! converted met it, the odds ratio with its interval, p corrected for many comparisons, and the conversions it may
//! have cost. *Comparison*: two periods or cohorts, rate by rate, with a verdict in words.
//!
//! Refuses: matching (who dropped comes from the engine), and calling an association a cause.
//!
//! All intervals are 95%; all p are two-sided. The special functions come from `libm`.

mod compare;
mod distribution;
mod drivers;
mod exposures;
mod facts;
mod odds;
mod proportion;
mod read;
mod statement;
mod subjects;

pub use compare::{Comparison, ComparisonError, StepComparison};
pub use drivers::{
    Driver, DriverOptions, DriverTable, EXPOSED_MIN, FACTS_MAX, Finding, LeftOut, LostConversions,
    TimeCheck, drivers,
};
pub use exposures::{
    Counts, Exposure, FactBook, FactCount, FactId, Outcome, Side, VALUES_MAX, count_exposures,
};
pub use facts::{BANDS, Band, Fact, FactKind, Observed, Request, band_of, facts_of};
pub use odds::{OddsRatio, Table, benjamini_hochberg};
pub use proportion::{
    Interval, Method, Rate, RateComparison, SIGNIFICANT, Test, Verdict, newcombe, two_proportions,
    wilson,
};
pub use read::{WhyError, drivers_in_store};
pub use subjects::{SAMPLE_MAX, Subject, Transition};
