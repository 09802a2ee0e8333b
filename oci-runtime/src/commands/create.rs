//! `create` and `run`.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use runtime_core::kernel::fd::inherited;
use runtime_core::{
    Bundle, Container, CreateOptions, Created, Driver, Host, Plan, Start, Terminal,
};

use super::{Failure, Invocation, Outcome, print};
use crate::foreground::{Signals, follow};
use crate::notify::Relay;

/// Makes a container whose program waits for `start`.
pub(super) fn create(invocation: &Invocation<'_>) -> Outcome {
    let request = Request::read(invocation)?;
    make(invocation, &request, Start::Later, Detached::Yes)?;
    request.print_id(Detached::Yes)
}

/// Makes a container and runs its program: until its end, or detached.
pub(super) fn run(invocation: &Invocation<'_>) -> Outcome {
    let request = Request::read(invocation)?;
    if invocation.flags.on("detach") {
        let mut created = make(invocation, &request, Start::Now, Detached::Yes)?;
        request.print_id(Detached::Yes)?;
        if let Some(relay) = relay(invocation, created.notify.take()) {
            created.container.unlock()?;
            let init = &created.init;
            relay
                .wait(init.pid.as_raw(), init.pidfd.as_fd())
                .map_err(|errno| os("poll()", errno))?;
        }
        return Ok(0);
    }
    if !invocation.flags.on("no-subreaper") {
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|errno| os("prctl(PR_SET_CHILD_SUBREAPER)", errno))?;
    }
    let signals = Signals::hold().map_err(|errno| os("signalfd()", errno))?;
    request.print_id(Detached::No)?;
    let mut created = make(invocation, &request, Start::Now, Detached::No)?;
    let relay = relay(invocation, created.notify.take());
    // From here on others may pause, kill and delete it.
    created.container.unlock()?;
    let code = follow(&created.init, created.master, &signals, relay.as_ref())
        .map_err(|errno| os("poll()", errno))?;
    drop(created.container);
    if !invocation.flags.on("keep")
        && let Err(error) = Container::delete_by_force(&invocation.root()?, &request.id)
    {
        invocation
            .log
            .warning(&format!("delete {:?}: {error}", request.id));
    }
    Ok(code)
}

/// The way from the container's notify socket to the caller's. One that is gone is no reason to end a container.
pub(super) fn relay(invocation: &Invocation<'_>, socket: Option<UnixDatagram>) -> Option<Relay> {
    let (socket, callers) = (socket?, crate::notify::callers()?);
    Relay::new(socket, &callers)
        .inspect_err(|error| {
            let text = format!("NOTIFY_SOCKET={callers:?}: {}", crate::format::io(error));
            invocation.log.warning(&text);
        })
        .ok()
}

pub(super) fn os(call: &str, errno: Errno) -> Failure {
    Failure::File(format!("{call}: {} ({errno:?})", errno.desc()))
}

/// Whether this program ends while the container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detached {
    Yes,
    No,
}

/// Which container of which bundle.
struct Request {
    id: String,
    bundle: PathBuf,
    /// Whether the caller cannot know the id.
    is_derived: bool,
}

impl Request {
    fn read(invocation: &Invocation<'_>) -> Result<Self, Failure> {
        let argument = invocation.id();
        let bundle = invocation
            .flags
            .value("bundle")
            .filter(|bundle| !bundle.is_empty());
        let is_bundle = bundle.is_none() && Path::new(argument).join("config.json").is_file();
        // A plain name is the id where the current directory is a bundle, as it always was.
        if is_bundle && (argument.contains('/') || !Path::new("config.json").exists()) {
            return Ok(Self {
                id: derive(Path::new(argument)),
                bundle: argument.into(),
                is_derived: true,
            });
        }
        Ok(Self {
            id: argument.to_owned(),
            bundle: bundle.unwrap_or(".").into(),
            is_derived: false,
        })
    }

    /// Says what the container is called where only this program knows, and standard output is not the container's.
    fn print_id(&self, detached: Detached) -> Outcome {
        if self.is_derived && detached == Detached::Yes {
            return print(&format!("{}\n", self.id));
        }
        Ok(0)
    }
}

/// An id from the name of a bundle's directory, and enough to tell it from others of that name.
fn derive(bundle: &Path) -> String {
    let real = fs::canonicalize(bundle).unwrap_or_else(|_| bundle.to_owned());
    let name = real
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "_-.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    format!("{name}-{}", std::process::id())
}

fn make(
    invocation: &Invocation<'_>,
    request: &Request,
    start: Start,
    detached: Detached,
) -> Result<Created, Failure> {
    let flags = invocation.flags;
    runtime_core::check_id(&request.id)?;
    let bundle = match flags.value("config") {
        Some(config) => {
            let config = std::path::absolute(config).map_err(|error| {
                Failure::Argument(format!("--config: {}", crate::format::io(&error)))
            })?;
            Bundle::open_with_config(&request.bundle, &config)?
        }
        None => Bundle::open(&request.bundle)?,
    };
    let plan = plan(invocation, &bundle)?;
    let (listen_fds, env) = listen_fds()?;
    let options = CreateOptions {
        start,
        terminal: terminal(flags.value("console-socket"), plan.terminal(), detached)?,
        pid_file: flags.value("pid-file").map(PathBuf::from),
        pidfd_socket: flags.value("pidfd-socket").map(PathBuf::from),
        pivot: !flags.on("no-pivot"),
        keyring: !flags.on("no-new-keyring"),
        preserved_fds: listen_fds + preserved_fds(flags.value("preserve-fds"), listen_fds)?,
        env,
        notify: crate::notify::callers().is_some(),
        init: super::init::program(flags, bundle.spec())?,
        root: None,
    };
    Ok(Container::create(
        &invocation.root()?,
        &request.id,
        &bundle,
        plan,
        options,
    )?)
}

/// What the bundle's configuration comes to on this host.
pub(super) fn plan(invocation: &Invocation<'_>, bundle: &Bundle) -> Result<Plan, Failure> {
    let mut host = Host::probe()?;
    // Only `--rootless=false` insists: no other value makes a limit that was asked for optional.
    host.cgroups_are_optional = invocation.global.value("rootless") != Some("false");
    if invocation.global.on("systemd-cgroup") {
        host.cgroup_driver = Driver::systemd();
    }
    let plan = Plan::compile(bundle.spec(), &host)?;
    for warning in plan.warnings() {
        invocation.log.warning(warning);
    }
    Ok(plan)
}

/// Who gets the terminal. A program that ends must have someone to give it to.
pub(super) fn terminal_for(
    socket: Option<&str>,
    wants_terminal: bool,
    is_detached: bool,
) -> Result<Terminal, Failure> {
    match (
        socket.filter(|socket| !socket.is_empty()),
        wants_terminal && is_detached,
    ) {
        (Some(socket), true) => Ok(Terminal::Socket(socket.into())),
        (None, false) => Ok(Terminal::Caller),
        (None, true) => Err(Failure::Argument(
            "cannot allocate tty if runc will detach without setting console socket".to_owned(),
        )),
        (Some(_), false) => Err(Failure::Argument(
            "cannot use console socket if runc will not detach or allocate tty".to_owned(),
        )),
    }
}

fn terminal(
    socket: Option<&str>,
    wants_terminal: bool,
    detached: Detached,
) -> Result<Terminal, Failure> {
    terminal_for(socket, wants_terminal, detached == Detached::Yes)
}

/// How many descriptors from 3 up socket activation gave this program, and what it tells the container's of them.
/// See sd_listen_fds(3).
fn listen_fds() -> Result<(i32, Vec<CString>), Failure> {
    let Some(written) = std::env::var("LISTEN_FDS")
        .ok()
        .filter(|count| !count.is_empty())
    else {
        return Ok((0, Vec::new()));
    };
    let count: i32 = written
        .parse()
        .ok()
        .filter(|count| (0..4096).contains(count))
        .ok_or_else(|| {
            Failure::Argument(format!(
                "LISTEN_FDS={written:?}: is no number of descriptors"
            ))
        })?;
    if count == 0 {
        return Ok((0, Vec::new()));
    }
    let mut env = vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()];
    env.extend(
        std::env::var("LISTEN_FDNAMES")
            .ok()
            .map(|names| format!("LISTEN_FDNAMES={names}")),
    );
    Ok((
        count,
        env.into_iter()
            .filter_map(|pair| CString::new(pair).ok())
            .collect(),
    ))
}

/// How many more descriptors are passed on, all of which must be there.
pub(super) fn preserved_fds(written: Option<&str>, listen_fds: i32) -> Result<i32, Failure> {
    let Some(written) = written else { return Ok(0) };
    let invalid = || {
        Failure::Argument(format!(
            "--preserve-fds {written:?}: is no number of descriptors"
        ))
    };
    let count: i32 = written
        .parse()
        .ok()
        .filter(|count| (0..4096).contains(count))
        .ok_or_else(invalid)?;
    for fd in 3..3 + listen_fds + count {
        let is_passed = inherited(fd).is_some_and(|fd| {
            let flags = fcntl(fd, FcntlArg::F_GETFD).map(FdFlag::from_bits_truncate);
            // What closes on exec was opened here.
            flags.is_ok_and(|flags| !flags.contains(FdFlag::FD_CLOEXEC))
        });
        if !is_passed {
            return Err(Failure::Argument(format!(
                "--preserve-fds {count}: descriptor {fd} is not open"
            )));
        }
    }
    Ok(count)
}
