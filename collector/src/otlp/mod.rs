//! The services' own spans: received by OTLP over gRPC and HTTP, stored, and passed on where wanted.

mod convert;
mod intake;
mod receive;

pub use intake::{Full, Intake, intake};
pub use receive::{grpc_router, http_router};
