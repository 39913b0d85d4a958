//! The taskhost library: everything that touches the world.

pub mod dev;
