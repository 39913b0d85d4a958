//! Whole-system tests: hosts as processes, against a real broker and a real Postgres.

mod crash;
mod guests;
mod messages;
mod swap;
