//! The types and the world of `wit/plugin.wit`, as wit-bindgen writes them.
//!
//! Plugins use the types of this crate's root instead. What must answer something that the SDK would
//! never answer (the guests that test the host) implements [`Guest`] and calls [`export!`] itself.
#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::restriction,
    reason = "this module is generated"
)]

wit_bindgen::generate!({
    path: "../wit",
    world: "plugin",
    pub_export_macro: true,
    default_bindings_module: "taskhost_sdk::bindings",
    additional_derives: [PartialEq],
});
