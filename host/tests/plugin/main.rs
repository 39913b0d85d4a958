//! Plugins against real guests: what they may use, what they can reach, how they are refused and swapped.
//!
//! The guests are built by `make plugins`; `TASKHOST_TEST_PLUGINS` names another directory of them.

mod escapes;
mod limits;
mod measure;
mod refusals;
mod reloads;
mod support;
mod swaps;
mod watching;
