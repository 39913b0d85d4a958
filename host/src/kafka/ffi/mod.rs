//! librdkafka's C interface where the crate hides it: all `unsafe` of this folder's parent, behind safe types.

pub(super) mod brokers;
mod c_text;
pub(super) mod describe;
pub(super) mod events;
pub(super) mod group;
pub(super) mod list;
pub(super) mod native;
pub(super) mod producer;
pub(super) mod verify;
