//! The only place that creates stores, which hold instances. It sets every limit.
//!
//! A new store has no epoch deadline, no limiter, and generous copying limits. So nothing else in the host creates one.

use std::time::Duration;

use wasmtime::Store;

use super::engine::{Engine, TICK};
use super::lines::Lines;
use super::state::{HANDLES_MAX, State};
use super::wasi;

/// Bytes of a descriptor, counted like an answer.
const DESCRIPTOR_BYTES_MAX: usize = 1 << 20;

/// A store with every limit set, ready to instantiate and configure.
pub(super) fn store(engine: &Engine) -> Store<State> {
    let limits = engine.limits();
    let lines = Lines::new(limits.log_lines_max);
    let state = State::new(wasi::context(&lines), limits, lines);
    let mut store = Store::new(engine.inner(), state);
    store.limiter(State::limiter);
    store.set_max_component_handles(HANDLES_MAX);
    store.epoch_deadline_trap();
    allow(&mut store, limits.configure_deadline, DESCRIPTOR_BYTES_MAX);
    store
}

/// Sets the deadline of the next call, and the largest size of its answer.
pub(super) fn allow(store: &mut Store<State>, deadline: Duration, answer_bytes_max: usize) {
    // The first tick can come at once, so one more than the deadline has.
    let ticks = deadline
        .as_millis()
        .div_ceil(TICK.as_millis())
        .saturating_add(1);
    store.set_epoch_deadline(u64::from(u32::try_from(ticks).unwrap_or(u32::MAX)));
    store.set_hostcall_fuel(answer_bytes_max);
}
