//! The breakers of a host: those of [`dependencies`], Postgres and Kafka, and those of [`routes`], one for each plugin's route.

pub mod dependencies;
pub mod routes;
mod told;
