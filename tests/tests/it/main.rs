//! Whole-system tests: hosts as processes, against a real broker and a real Postgres.

mod commands;
mod configuration;
mod console_tools;
mod crash;
mod dead_letters;
mod deferral;
mod delivery;
mod dlq;
mod documented;
mod examples;
mod fleet;
mod fleet_activation;
mod guests;
mod halts;
mod http;
mod kafkajs;
mod laws;
mod messages;
mod prometheus;
mod rebalancing;
mod recovery_states;
mod stopping;
mod swap;
mod topic_changes;
mod transitions;
mod zombies;
