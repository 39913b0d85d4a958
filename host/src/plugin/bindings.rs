//! The types and the world of `wit/plugin.wit`, as the component macro writes them.
//!
//! Exports are called asynchronously so that a guest which waits for something gives control back instead
//! of blocking the host's thread; see [`super::component`].
#![allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::all,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::needless_pass_by_value,
    reason = "this module is generated"
)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    imports: { default: trappable },
    exports: { default: async },
});
