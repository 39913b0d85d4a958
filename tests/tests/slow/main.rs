//! Whole-system tests that take over a minute, or that stop the services they run on: `make test-slow`.

mod cutover;
mod million_wakeups;
mod missing_topic;
mod mutants;
mod outages;
mod replays;
mod secured;
mod services;
mod unknown_commits;
