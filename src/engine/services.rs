//! What units of a service manager must know to find the containers of this user.

use std::path::Path;

/// Variables that say where the store is, where a service manager would not have them so.
pub fn environment() -> Vec<String> {
    let uid = rustix::process::geteuid();
    let home = std::env::var("HOME").unwrap_or_default();
    let usual = |name: &str, value: &str| match name {
        "XDG_DATA_HOME" => {
            !uid.is_root() && Path::new(value) == Path::new(&home).join(".local/share")
        }
        _ => value == format!("/run/user/{}", uid.as_raw()),
    };
    ["XDG_DATA_HOME", "XDG_RUNTIME_DIR"]
        .into_iter()
        .filter_map(|name| Some((name, std::env::var(name).ok()?)))
        .filter(|(name, value)| value.starts_with('/') && !usual(name, value))
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}
