//! The last steps: finding the program, waiting for `start`, and becoming the program.

use std::convert::Infallible;
use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, stat};
use nix::unistd::{AccessFlags, faccessat, write};

use super::{At, Fifo, Result, Step, identity};
use crate::kernel::exec::{execve, execveat};
use crate::kernel::fd::{CloseHow, close_from};
use crate::kernel::process::default_sigpipe;
use crate::plan::process::{Process, Program};

/// Most bytes of the container's `/etc/passwd` that are read.
const MOST_PASSWD: u64 = 1 << 20;

/// Tells now what `execve` would tell too late for `create`.
pub(crate) fn find_program(process: &Process) -> Result<()> {
    let program = &process.program;
    if program.candidates.is_empty() {
        return Ok(());
    }
    match usable(program) {
        Ok(_) => Ok(()),
        Err(errno) => Err(errno).at(Step::Program, 0, format_args!("stat({})", program.name)),
    }
}

/// The first candidate that can be executed. Says EACCES where there were only others.
fn usable(program: &Program) -> nix::Result<&CString> {
    let mut worst = Errno::ENOENT;
    for path in &program.candidates {
        let found = stat(path.as_c_str()).and_then(|stat| {
            if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR {
                return Err(Errno::EISDIR);
            }
            faccessat(
                AT_FDCWD,
                path.as_c_str(),
                AccessFlags::X_OK,
                AtFlags::AT_EACCESS,
            )
        });
        match found {
            Ok(()) => return Ok(path),
            Err(Errno::ENOENT) => {}
            Err(errno) if program.name.contains('/') || errno == Errno::EACCES => worst = errno,
            Err(_) => {}
        }
    }
    Err(worst)
}

/// Waits until someone opens the FIFO for reading, and gives the byte that says so.
pub(crate) fn wait_for_start(wait: &Fifo) -> Result<()> {
    let step = Step::Wait;
    let link = format!("self/fd/{}", wait.fifo.as_raw_fd());
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let opened = loop {
        let opened = match &wait.proc {
            Some(proc) => openat(proc, link.as_str(), flags, Mode::empty()),
            None => open(format!("/proc/{link}").as_str(), flags, Mode::empty()),
        };
        match opened {
            Err(Errno::EINTR) => {}
            other => break other.at(step, 0, "open(exec.fifo, O_WRONLY)")?,
        }
    };
    write(&opened, b"0")
        .at(step, 0, "write(exec.fifo)")
        .map(drop)
}

/// Becomes the program, or `init`, which begins with all signals blocked. Every descriptor from `first_closed` up ends
/// with this process image.
pub(crate) fn replace(
    process: &Process,
    init: Option<BorrowedFd<'_>>,
    first_closed: i32,
) -> Result<Infallible> {
    let step = Step::Exec;
    match init {
        Some(_) => default_sigpipe().at(step, 0, "sigaction(SIGPIPE)")?,
        None => identity::restore_signals().at(step, 0, "sigprocmask()")?,
    }
    match close_from(first_closed, CloseHow::OnExec) {
        // Below 5.11: every descriptor made here closes on exec, and those passed in are the caller's to mark.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOSYS) => {}
        Err(errno) => return Err(errno).at(step, 0, "close_range()"),
    }
    if let Some(init) = init {
        return execveat(init, &process.args, &process.env.strings).at(step, 0, "execveat(init)");
    }
    let path =
        usable(&process.program).at(step, 0, format_args!("stat({})", process.program.name))?;
    let errno = execve(path, &process.args, &process.env.strings);
    Err(errno).at(step, 0, format_args!("execve({path:?})"))
}

/// Puts the home directory of the container's `/etc/passwd` into an environment without `HOME`.
pub(crate) fn fill_home(process: &mut Process) {
    let Some(place) = process.env.home else {
        return;
    };
    if let Some(home) = home_of(process.user.uid) {
        process.env.strings.replace(place, home);
    }
}

/// `HOME=` and the home directory of the user, if the container's `/etc/passwd` is a file and knows it.
fn home_of(uid: u32) -> Option<CString> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = std::fs::File::from(open("/etc/passwd", flags, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(MOST_PASSWD).read_to_end(&mut text).ok()?;
    home_in(&text, uid)
}

fn home_in(passwd: &[u8], uid: u32) -> Option<CString> {
    let home = passwd.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b':').skip(2);
        let id: u32 = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        if id == uid { fields.nth(2) } else { None }
    })?;
    (!home.is_empty())
        .then(|| CString::new([b"HOME=", home].concat()).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nshort:x:7\n\nu:x:1000:1000::/home/u:/bin/sh\nv:x:1001:1::";
        for (uid, home) in [
            (0, Some(c"HOME=/root")),
            (1000, Some(c"HOME=/home/u")),
            (7, None),
            (1001, None),
            (5, None),
        ] {
            assert_eq!(home_in(passwd, uid).as_deref(), home, "{uid}");
        }
    }
}
