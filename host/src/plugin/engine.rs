//! The one engine of the process. It compiles guests, gives them memory, and advances their time.
//!
//! Invariants: every guest computes the same on every machine (canonical NaNs, no threads, no relaxed SIMD). Every guest
//! can be interrupted: a separate thread raises the epoch while a guest runs, whatever the rest of the host does. No more
//! instances exist at once than the pooling allocator has room for.

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::limits::Limits;
use super::linker;
use super::observer::PluginObserver;
use super::state::State;
use crate::background::{Background, Duty};

/// How often the epoch is raised. This is also the precision of a deadline.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// How long the thread that raises the epoch waits for guests before it checks whether the engine still exists.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Stack that host functions get beyond the guest's own: wasmtime's default leaves 1.5 MiB.
const HOST_STACK_BYTES: usize = 512 << 10;

/// The most core instances, memories and tables in a component, each. A component from `wasm32-wasip2` has three, one
/// and two; composed components have a few times that.
const PARTS_MAX: u32 = 16;

/// Memories of a component: almost always one.
const MEMORIES_MAX: u32 = 4;

/// Lets time pass for plugins.
const EPOCH: Duty = Duty {
    name: "plugin-epoch",
    without: "no plugin is stopped at its deadline",
};

/// How long a call waits until the instance of another call ends. Each call ends by its own deadline, so only a stalled
/// machine reaches this.
const TURN_WAIT_MAX: Duration = Duration::from_secs(30);

/// Compiles and runs plugins. One for the process.
pub struct Engine {
    inner: wasmtime::Engine,
    linker: Linker<State>,
    limits: Limits,
    gate: Arc<Gate>,
    observer: Arc<dyn PluginObserver>,
}

/// Why this machine can't run plugins.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine can't be set up with these limits: {reason}")]
pub struct EngineError {
    /// The text of the engine.
    pub reason: String,
}

impl Engine {
    /// Sets up the engine and the thread that advances the time.
    ///
    /// # Errors
    /// If the machine can't reserve the address space for the limits, or can't start a thread.
    pub fn new(
        limits: Limits,
        observer: Arc<dyn PluginObserver>,
        background: &Background,
    ) -> Result<Arc<Self>, EngineError> {
        let failed = |reason: String| EngineError { reason };
        let inner = wasmtime::Engine::new(&config(&limits))
            .map_err(|error| failed(format!("{error:#}")))?;
        let linker = linker::linker(&inner).map_err(|error| failed(format!("{error:#}")))?;
        let gate = Arc::new(Gate {
            all: limits.instances_max,
            free: Mutex::new(limits.instances_max),
            freed: Condvar::new(),
            taken: Condvar::new(),
        });
        tick(&inner, gate.clone(), background)
            .map_err(|error| failed(format!("no thread for the deadlines: {error}")))?;
        Ok(Arc::new(Self {
            inner,
            linker,
            limits,
            gate,
            observer,
        }))
    }

    /// The limits of every plugin.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn inner(&self) -> &wasmtime::Engine {
        &self.inner
    }

    pub(super) fn linker(&self) -> &Linker<State> {
        &self.linker
    }

    pub(super) fn observer(&self) -> &dyn PluginObserver {
        &*self.observer
    }

    /// Waits for room for one instance; none if there was none for half a minute.
    pub(super) fn turn(&self) -> Option<Turn> {
        let free = self
            .gate
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (mut free, waited) = self
            .gate
            .freed
            .wait_timeout_while(free, TURN_WAIT_MAX, |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && *free == 0 {
            return None;
        }
        if *free == self.gate.all {
            self.gate.taken.notify_one();
        }
        *free -= 1;
        Some(Turn {
            gate: self.gate.clone(),
        })
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Counts the instances that may still be made.
struct Gate {
    /// The number of all.
    all: u32,
    free: Mutex<u32>,
    freed: Condvar,
    /// Told when the first one is taken.
    taken: Condvar,
}

impl Gate {
    /// Waits while there is no guest at all.
    fn wait_for_guests(&self) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |free: &mut u32| *free == self.all;
        drop(self.taken.wait_timeout_while(free, IDLE_MAX, idle));
    }
}

/// Room for one instance, given back when it is dropped.
pub(super) struct Turn {
    gate: Arc<Gate>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self
            .gate
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += 1;
        self.gate.freed.notify_one();
    }
}

fn config(limits: &Limits) -> Config {
    let mut config = Config::new();
    // The same answer everywhere. Threads, garbage collection and async components are not built in.
    config.cranelift_nan_canonicalization(true);
    config.wasm_relaxed_simd(false);
    config.wasm_memory64(false);
    // The limits that the engine enforces.
    config.epoch_interruption(true);
    config.max_wasm_stack(limits.stack_bytes_max);
    config.async_stack_size(limits.stack_bytes_max + HOST_STACK_BYTES);
    config.wasm_backtrace_max_frames(NonZeroUsize::new(32));
    // A fresh instance is a mapping of the component's image, not a copy of it.
    config.memory_init_cow(true);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    config
}

fn pool(limits: &Limits) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    let instances = limits.instances_max;
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(PARTS_MAX))
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(PARTS_MAX))
        .total_stacks(instances)
        .max_core_instances_per_component(PARTS_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(PARTS_MAX)
        .max_memory_size(limits.memory_bytes_max)
        .table_elements(limits.table_elements_max)
        // Pages that an instance touched are returned to the kernel at once. To zero them and keep them resident was
        // slower in measurements: 30 µs for an instance, 50 µs with 1 MiB kept.
        .max_unused_warm_slots(8);
    pool
}

/// Raises the epoch while there are guests, until the engine is gone.
fn tick(
    engine: &wasmtime::Engine,
    gate: Arc<Gate>,
    background: &Background,
) -> std::io::Result<()> {
    let engine = engine.weak();
    background.thread(EPOCH, move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
            gate.wait_for_guests();
        }
    })
}
