//! Whole-system tests: hosts as processes, against a real broker and a real Postgres.

mod messages;
