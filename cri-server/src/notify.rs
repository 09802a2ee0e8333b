//! What systemd wants to be told, see sd_notify(3): nothing where `NOTIFY_SOCKET` is not set.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Sends a state such as `READY=1`. Nobody can do anything about a failure but say so.
pub fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|p| !p.is_empty()) else {
        return;
    };
    let bytes = path.as_encoded_bytes();
    let sent = || {
        let socket = UnixDatagram::unbound()?;
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        socket.send_to_addr(state.as_bytes(), &address)
    };
    if let Err(error) = sent() {
        tracing::warn!("notify {path:?} of {state:?}: {error}");
    }
}

/// Tells that the configuration is being read again, with the time systemd wants beside it.
pub fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// How often systemd wants a sign of life: half of what it allows.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    let text = |name: &str| std::env::var(name).ok();
    let is_ours = text("WATCHDOG_PID")
        .and_then(|pid| pid.parse::<u32>().ok())
        .is_none_or(|pid| pid == std::process::id());
    let allowed = text("WATCHDOG_USEC")?
        .parse()
        .ok()
        .filter(|usec| *usec > 0)?;
    is_ours.then(|| Duration::from_micros(allowed) / 2)
}
