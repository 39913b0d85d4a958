//! Needs the other one by an import.

use super::left::Left;

pub(crate) struct Right;

pub(crate) fn turn(_: Left) -> Right {
    Right
}
