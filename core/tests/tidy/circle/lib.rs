//! Two modules that need each other, for the test of the check.

mod left;
mod right;
