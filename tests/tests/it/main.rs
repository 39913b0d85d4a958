//! Whole-system tests: hosts as processes, against a real broker and a real Postgres.

mod commands;
mod configuration;
mod console_tools;
mod crash;
mod dead_letters;
mod deferral;
mod delivery;
mod documented;
mod examples;
mod fleet_activation;
mod guests;
mod http;
mod kafkajs;
mod laws;
mod messages;
mod prometheus;
mod recovery_states;
mod stopping;
mod swap;
mod topic_changes;
mod transitions;
