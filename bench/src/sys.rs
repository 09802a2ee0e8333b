//! The system calls that std has no safe form for; the only module of the library with unsafe code.
#![allow(unsafe_code, reason = "system calls")]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From here on SIGINT, SIGTERM and SIGHUP only set what [`interrupted`] tells, so that everything can be removed.
pub fn catch_signals() {
    let handler = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores into an atomic, which is allowed at any moment.
        unsafe { libc::signal(signal, handler) };
    }
}

/// Whether a signal asked for the end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Moves this process, which has to have one thread, into a mount namespace whose mounts reach no other.
///
/// # Errors
/// unshare(2)'s or mount(2)'s, `EPERM` without CAP_SYS_ADMIN.
pub fn private_mounts() -> io::Result<()> {
    // SAFETY: changes the namespace of this process, no memory.
    done(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    mount(
        Path::new("none"),
        Path::new("/"),
        "",
        libc::MS_REC | libc::MS_PRIVATE,
        "",
    )
}

/// Moves this process, which has to have one thread, into a network namespace of its own, where nothing is up.
///
/// # Errors
/// unshare(2)'s, `EPERM` without CAP_SYS_ADMIN.
pub fn private_network() -> io::Result<()> {
    // SAFETY: changes the namespace of this process, no memory.
    done(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// mount(2).
///
/// # Errors
/// mount(2)'s, and `EINVAL` for a NUL in an argument.
pub fn mount(
    source: &Path,
    target: &Path,
    kind: &str,
    flags: libc::c_ulong,
    data: &str,
) -> io::Result<()> {
    let source = c_path(source)?;
    let target = c_path(target)?;
    let kind = CString::new(kind)?;
    let data = CString::new(data)?;
    // SAFETY: four C strings that outlive the call.
    done(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    })
}

/// Moves a mount to another directory.
///
/// # Errors
/// mount(2)'s.
pub fn move_mount(from: &Path, to: &Path) -> io::Result<()> {
    mount(from, to, "", libc::MS_MOVE, "")
}

/// Orphans of what this process starts become its own children, so that it can wait for them.
///
/// # Errors
/// prctl(2)'s.
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: sets an attribute of this process.
    done(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })
}

/// Sends SIGKILL to one process: an adopted orphan, whose number nobody else can free, or a member of a cgroup of ours.
pub fn kill(pid: libc::pid_t) {
    // Zero and negative numbers are groups or everybody.
    if pid > 1 {
        // SAFETY: sends a signal, no memory.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// Waits for the end of a child or adopted orphan; one that is not ours is not waited for.
pub fn reap(pid: libc::pid_t) {
    if pid > 1 {
        // SAFETY: a null status pointer is allowed.
        while unsafe { libc::waitpid(pid, ptr::null_mut(), 0) } < 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
    }
}

/// Reaps every child that has ended. Not to be called while a `std::process::Child` is waited for.
pub fn reap_ended() {
    // SAFETY: a null status pointer is allowed.
    while unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
