//! The `taskhost` command.
fn main() {}
