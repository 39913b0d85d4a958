//! The breakers of a host: of its [`dependencies`], Postgres and Kafka, and of its [`routes`], one for each.
//!
//! Here are also: who is told of a route's breaker, what people order, and the rollback of a version that trips one on
//! probation.

pub mod dependencies;
pub(crate) mod orders;
pub(crate) mod rollback;
pub mod routes;
mod teller;
mod told;

pub(crate) use teller::{Teller, rules};
