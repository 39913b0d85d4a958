//! Compiles, limits, calls and swaps plugins. The only place that names wasmtime or the interface's types.
//!
//! ```text
//!   file, command ──► activation ──► versions (compare-and-set, bytes)
//!                        │ compile, configure, check            │
//!                        ▼                                      ▼ another host's activation
//!   worker ──► catalog: route ──► Active ──► component ──► sandbox: a fresh instance per batch
//! ```
//!
//! - [`Engine`] is the process's one engine, and [`Limits`] are the limits of every plugin;
//! - [`Component`] is a compiled plugin: it describes itself and decides;
//! - [`Catalog`] has the active version of each route, and swaps it by one pointer;
//! - [`Versions`] stores the activations of all hosts;
//! - [`Watcher`] offers the files of a directory.
//!
//! Invariants: an active version was compiled by this host, fits the world and its route, and has a description without
//! contradictions. A refused version never replaces the active one. Nothing of a guest outlives its batch.

mod activation;
mod bindings;
mod catalog;
mod compiled;
#[cfg(feature = "bench")]
mod compiled_in;
mod component;
mod convert;
mod diagnosis;
mod engine;
mod following;
mod in_memory;
mod journal;
mod library;
mod limiter;
mod limits;
mod lines;
mod linker;
mod observer;
mod question;
mod refused;
mod sandbox;
mod settling;
mod state;
mod versions;
mod wasi;
mod watcher;
mod world;

pub use activation::{Offer, Offered, Wish};
pub use catalog::{Active, Catalog, CatalogError, PluginRoute, RouteSnapshot};
#[cfg(feature = "bench")]
pub use compiled_in::{Rules, decide_by};
pub use component::{Component, digest};
pub use engine::{Engine, EngineError};
pub use in_memory::InMemory;
pub use library::Library;
pub use limits::Limits;
pub use observer::PluginObserver;
pub use question::Question;
pub use refused::{Refusal, Refused};
pub use versions::{
    Activated, Activation, ActivationKind, Answer, NewActivation, RolledBack, SavedVersion,
    Versions, VersionsError,
};
pub use watcher::{Timing, Watcher};
pub use world::INTERFACE;
