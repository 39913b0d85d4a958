//! How this host calls itself.

/// This machine's name.
pub(super) fn host_name() -> String {
    let name = nix::unistd::gethostname().ok();
    name.and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "without a name".to_owned())
}

/// Who activates what this host finds in its directory.
pub(super) fn by() -> String {
    format!("host {}", host_name())
}
