//! The breakers of a host: those of [`dependencies`], Postgres and Kafka, and those of [`routes`], one for each plugin's route;
//! who is told of a route's, what people order, and the rollback of a version that trips one on probation.

pub mod dependencies;
pub(crate) mod orders;
pub(crate) mod rollback;
pub mod routes;
mod teller;
mod told;

pub(crate) use teller::{Teller, rules};
