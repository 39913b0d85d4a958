//! Checks whether bytes are a component of the plugin world. If not, one sentence says what is wrong.

use std::sync::Arc;

use wasmtime::component::types::ComponentItem;

use super::bindings::PluginPre;
use super::engine::Engine;
use super::refused::Refused;
use super::state::State;

/// The interface by which plugins are asked.
pub const INTERFACE: &str = "taskhost:plugin@0.1.0";

/// The world's exports.
const EXPORTS: [&str; 2] = ["configure", "decide"];

/// The interfaces that are linked, without their versions.
const IMPORTS: [&str; 8] = [
    "taskhost:plugin/logging",
    "taskhost:plugin/types",
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// Compiles bytes.
pub(super) fn compile(
    engine: &Engine,
    bytes: &[u8],
) -> Result<wasmtime::component::Component, Refused> {
    let bytes_max = engine.limits().component_bytes_max;
    if bytes.len() > bytes_max {
        return Err(Refused::TooLarge {
            bytes: bytes.len() as u64,
            bytes_max,
        });
    }
    if let Some(found) = not_a_component(bytes) {
        return Err(Refused::NotAComponent {
            found: found.to_owned(),
        });
    }
    wasmtime::component::Component::from_binary(engine.inner(), bytes).map_err(|error| {
        let reason = format!("{error:#}");
        match exceeds_a_limit(&reason) {
            true => Refused::OverLimit { reason },
            false => Refused::DoesNotCompile { reason },
        }
    })
}

/// Checks imports and exports, and resolves them once for all instances.
pub(super) fn link(
    engine: &Arc<Engine>,
    compiled: &wasmtime::component::Component,
) -> Result<PluginPre<State>, Refused> {
    let other = |reason: String| Refused::OtherWorld { reason };
    let world = compiled.component_type();
    for (name, _) in world.imports(engine.inner()) {
        if !IMPORTS.iter().any(|known| name.starts_with(known)) {
            return Err(other(format!(
                "it imports `{name}`, which plugins can't use"
            )));
        }
    }
    for name in EXPORTS {
        let export = world
            .get_export(engine.inner(), name)
            .map(|export| export.ty);
        if !matches!(export, Some(ComponentItem::ComponentFunc(_))) {
            return Err(other(format!(
                "it lacks the export `{name}` of the world taskhost:plugin/plugin@0.1.0"
            )));
        }
    }
    let pre = engine.linker().instantiate_pre(compiled).map_err(|error| {
        let reason = format!("{error:#}");
        match exceeds_a_limit(&reason) {
            true => Refused::OverLimit { reason },
            false => other(reason),
        }
    })?;
    PluginPre::new(pre).map_err(|error| other(format!("{error:#}")))
}

/// Whether an instance's exports can't be read because one has another type than in the world.
pub(super) fn is_type_mismatch(error: &wasmtime::Error) -> bool {
    let text = format!("{error:#}");
    [
        "type mismatch",
        "failed to convert function to given type",
        "expected ",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}

/// The texts of the pooling allocator about a component that has too many or too large parts.
fn exceeds_a_limit(reason: &str) -> bool {
    [
        "exceeds the configured maximum",
        "exceeds the limit of",
        "exceeds the per-instance limit",
    ]
    .iter()
    .any(|sign| reason.contains(sign))
}

/// The kind of the bytes, if they are not a component. The specification's `Binary.md` defines the preamble: magic, then
/// version and layer as two 16-bit numbers. Layer 0 is a core module, layer 1 a component.
fn not_a_component(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [] => Some("an empty file"),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => None,
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => Some(
            "a core module; build it for the target wasm32-wasip2, or make it a component with `wasm-tools`",
        ),
        [0, b'a', b's', b'm', ..] => Some("a truncated or unknown form of WebAssembly"),
        _ if std::str::from_utf8(&bytes[..bytes.len().min(64)]).is_ok() => Some("a text file"),
        _ => Some("an unknown kind of file"),
    }
}
