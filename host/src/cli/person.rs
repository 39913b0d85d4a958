//! Who runs a command, as the history names them.

/// The name of the user, for the history.
pub(super) fn by() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten()
        .map_or_else(|| nix::unistd::geteuid().to_string(), |user| user.name);
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    format!("{user}@{}", host.as_deref().unwrap_or("unknown"))
}
