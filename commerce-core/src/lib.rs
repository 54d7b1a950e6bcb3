//! The shop: a multi-tenant mall whose services call one another over HTTP.
//!
//! Owns: the services, their SQL, their money rules. Refuses: everything on the observing side; it is watched
//! and never knows the watcher. First services: accounts, catalogue and cart, inventory, orders and payments,
//! behind a gateway. The others of the mall get a module beside these in [`services`].

pub mod auth;
pub mod database;
pub mod problem;
pub mod services;
pub mod telemetry;
