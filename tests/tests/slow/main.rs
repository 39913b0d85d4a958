//! Whole-system tests that take over a minute, or that stop the services they run on: `make test-slow`.

mod cutover;
mod secured;
mod services;
