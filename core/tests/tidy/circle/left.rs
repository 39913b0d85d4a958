//! Needs the other one by a path.

pub(crate) struct Left;

pub(crate) fn turn(_: crate::right::Right) -> Left {
    Left
}
