//! An ordinary user's own user and mount namespace, in which the user's files can be read and changed whatever their
//! modes are, and overlays can be looked at. The only id in it is the user's own, as itself.
//!
//! See user_namespaces(7).

use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::path::PathBuf;

/// Where the store is if nobody says so.
pub fn default_root() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || var("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    match var("XDG_DATA_HOME").map(PathBuf::from).or_else(home) {
        Some(data) if !rustix::process::geteuid().is_root() => data.join("ocirun/images"),
        _ => PathBuf::from("/var/lib/ocirun/images"),
    }
}

/// Enters the namespaces, unless root runs this. Where the machine grants none, images whose files their owner may read
/// work all the same. The process has one thread.
pub fn enter() {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() || unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).is_err() {
        return;
    }
    let (uid, gid) = (uid.as_raw(), gid.as_raw());
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("gid_map", format!("{gid} {gid} 1")),
        ("uid_map", format!("{uid} {uid} 1")),
    ] {
        // Without a map this process would be nobody, but who may make the namespace may also write its maps.
        if let Err(error) = fs::write(format!("/proc/self/{file}"), text) {
            super::show::error_line(&format!(
                "ocirun-image: write(\"/proc/self/{file}\"): {error}"
            ));
        }
    }
}
