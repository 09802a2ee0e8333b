//! The commands: from what was typed to the library and back to what is printed.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Pid;
use runtime_core::kernel::pidfd;
use runtime_core::{Container, Error, ErrorKind, Root, State};

use crate::cli::Flags;
use crate::logging::{Cause, Log};

mod checkpoint;
mod create;
mod events;
mod exec;
mod features;
mod image;
mod init;
mod list;
mod mounts;
mod ps;
mod restore;
mod spec;
mod update;

/// Why a command ends without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library's error.
    Runtime(Error),
    /// What the command line asks cannot be.
    Argument(String),
    /// A file of the caller.
    File(String),
}

impl Failure {
    /// Whether there is no such container.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Runtime(error) if *error.kind() == ErrorKind::NotFound)
    }

    /// The same, with the container that it happened to.
    fn of(self, id: &str) -> Self {
        match self {
            Self::Runtime(error) => Self::Runtime(error.context(format_args!("{id:?}"))),
            Self::Argument(text) => Self::Argument(format!("{id:?}: {text}")),
            Self::File(text) => Self::File(format!("{id:?}: {text}")),
        }
    }

    /// What programs are told of it.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Runtime(error) => Cause {
                code: error.kind().code(),
                errno: error.errno().map(|errno| format!("{errno:?}")),
                pointer: error.pointer().map(str::to_owned),
            },
            Self::Argument(_) => Cause::of("invalid_argument"),
            Self::File(_) => Cause::of("file"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Runtime(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
            Self::Argument(text) | Self::File(text) => f.write_str(text),
        }
    }
}

/// What a command ends with: the exit code.
pub(crate) type Outcome = Result<i32, Failure>;

/// One command with everything it was given.
#[derive(Debug)]
pub(crate) struct Invocation<'a> {
    pub(crate) command: &'static str,
    pub(crate) global: &'a Flags,
    pub(crate) flags: &'a Flags,
    pub(crate) arguments: &'a [String],
    pub(crate) log: Log,
    /// What the program was called as.
    pub(crate) name: &'a str,
}

impl Invocation<'_> {
    /// The directory of all containers.
    fn root(&self) -> Result<Root, Failure> {
        let Some(written) = self.global.value("root").filter(|root| !root.is_empty()) else {
            return Ok(Root::new(default_root()));
        };
        let path = std::path::absolute(written).map_err(|error| {
            Failure::Argument(format!("--root {written:?}: {}", crate::format::io(&error)))
        })?;
        if path == Path::new("/") {
            return Err(Failure::Argument(
                "--root \"/\": containers' state cannot lie in the root directory".to_owned(),
            ));
        }
        Ok(Root::new(path))
    }

    /// The first argument.
    fn id(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    /// The id of the container that the command is about, where there is one.
    pub(crate) fn container_named(&self) -> Option<&str> {
        let place = usize::from(self.command == "mounts");
        let id = self.arguments.get(place)?;
        let is_id = !matches!(self.command, "completions" | "image" | "man")
            && runtime_core::check_id(id).is_ok();
        is_id.then_some(id)
    }

    fn container(&self) -> Result<Container, Failure> {
        Ok(Container::open(&self.root()?, self.id())?)
    }

    fn locked_container(&self) -> Result<Container, Failure> {
        Ok(Container::open_exclusive(&self.root()?, self.id())?)
    }
}

/// Below `XDG_RUNTIME_DIR` for who is not root, as each user has a directory of its own there.
fn default_root() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime) if !nix::unistd::geteuid().is_root() && !runtime.is_empty() => {
            PathBuf::from(runtime).join("ocirun")
        }
        _ => PathBuf::from("/run/ocirun"),
    }
}

/// Does what the command says.
pub(crate) fn run(invocation: &Invocation<'_>) -> Outcome {
    refuse_unsupported(invocation.global)?;
    invocation.log.debug(&format!(
        "{} {:?}",
        invocation.command, invocation.arguments
    ));
    match invocation.command {
        "checkpoint" => checkpoint::checkpoint(invocation),
        "create" => create::create(invocation),
        "run" => create::run(invocation),
        "exec" => exec::exec(invocation),
        "start" => start(invocation),
        "state" => state(invocation),
        "kill" => kill(invocation),
        "delete" => delete(invocation),
        "pause" => done(invocation.locked_container()?.pause()),
        "resume" => done(invocation.locked_container()?.resume()),
        "image" => image::image(invocation),
        "list" => list::list(invocation),
        "mounts" => mounts::mounts(invocation),
        "ps" => ps::ps(invocation),
        "restore" => restore::restore(invocation),
        "spec" => spec::spec(invocation),
        "features" => features::features(invocation),
        "events" => events::events(invocation),
        "update" => update::update(invocation),
        "completions" => crate::docs::completions(invocation.id()),
        "man" => crate::docs::man(Path::new(invocation.id())),
        other => Err(Failure::Argument(format!("{other}: not a command"))),
    }
}

/// Writes `text` to standard output, which may be full, or a pipe that nobody reads any more.
pub(crate) fn print(text: &str) -> Outcome {
    let mut stdout = std::io::stdout();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written
        .map(|()| 0)
        .map_err(|error| Failure::File(format!("write(stdout): {}", crate::format::io(&error))))
}

fn done(result: runtime_core::Result<()>) -> Outcome {
    result.map(|()| 0).map_err(Failure::from)
}

/// What would change containers and is not there yet is an error and not ignored.
fn refuse_unsupported(global: &Flags) -> Result<(), Failure> {
    match global.value("rootless") {
        None | Some("auto" | "true" | "false") => Ok(()),
        Some(other) => Err(Failure::Argument(format!(
            "--rootless {other:?}: neither true, false nor auto"
        ))),
    }
}

/// Lets the program run; and, where the caller wants to hear of it, waits until it says that it is ready.
fn start(invocation: &Invocation<'_>) -> Outcome {
    let container = invocation.locked_container()?;
    let socket = match crate::notify::callers() {
        Some(_) => container.notify_socket()?,
        None => None,
    };
    let relay = create::relay(invocation, socket);
    container.start()?;
    if let Some(relay) = relay {
        container.unlock()?;
        let pid = container.state()?.pid;
        // One that has ended has nothing more to tell.
        if let Ok(process) = pidfd::open(Pid::from_raw(pid)) {
            let waited = relay.wait(pid, process.as_fd());
            waited.map_err(|errno| Failure::File(format!("poll(): {errno}")))?;
        }
    }
    Ok(0)
}

fn state(invocation: &Invocation<'_>) -> Outcome {
    print(&render(&invocation.container()?.state()?, ""))
}

/// The state as indented JSON without a newline at its end; `owner` is a name in lists and empty elsewhere.
fn render(state: &State, owner: &str) -> String {
    serde_json::to_string_pretty(&crate::format::StateView::new(state, owner)).unwrap_or_default()
}

fn kill(invocation: &Invocation<'_>) -> Outcome {
    for_each(invocation, |id| {
        let container = Container::open(&invocation.root()?, id)?;
        let written = invocation.arguments.get(1).map_or("TERM", String::as_str);
        let signal = crate::format::signal(written)
            .ok_or_else(|| Failure::Argument(format!("unknown signal {written:?}")))?;
        if invocation.flags.on("all") {
            // All of a container that has ended are none, which is no error.
            return Ok(container.kill_all(signal)?);
        }
        Ok(container.kill(signal)?)
    })
}

fn delete(invocation: &Invocation<'_>) -> Outcome {
    for_each(invocation, |id| {
        let root = invocation.root()?;
        if invocation.flags.on("force") {
            return Ok(Container::delete_by_force(&root, id)?);
        }
        Ok(Container::open_exclusive(&root, id)?.delete()?)
    })
}

/// Does `verb` to the container of the first argument, or to all in whose ids it is found as a regular expression: to
/// the others too where it fails for one. The last failure is the command's, the others are warnings.
fn for_each(invocation: &Invocation<'_>, verb: impl Fn(&str) -> Result<(), Failure>) -> Outcome {
    let written = invocation.id();
    if !invocation.flags.on("regex") {
        return verb(written).map(|()| 0);
    }
    let pattern = regex_lite::Regex::new(written)
        .map_err(|error| Failure::Argument(format!("--regex: {error}")))?;
    let mut last = None;
    let ids = match invocation.root()?.ids() {
        // No container was ever made.
        Err(error) if error.errno() == Some(Errno::ENOENT) => Vec::new(),
        ids => ids?,
    };
    for id in ids {
        if !pattern.is_match(&id) {
            continue;
        }
        match verb(&id) {
            Ok(()) => {}
            // One that another has deleted meanwhile is what was wanted.
            Err(failure) if failure.is_not_found() => {}
            Err(failure) => {
                let failure = failure.of(&id);
                if let Some(earlier) = last.replace(failure) {
                    invocation.log.warning(&earlier.to_string());
                }
            }
        }
    }
    last.map_or(Ok(0), Err)
}
