//! Kafka in memory: the cluster, and what a host's clients call.

mod client;
mod cluster;
mod group;

pub(crate) use client::{Brokers, Client, Producers};
pub(crate) use cluster::{Cluster, Fetched};
