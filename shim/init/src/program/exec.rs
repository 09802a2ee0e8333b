//! From the fork to the exec: the child's group or session, terminal, signals, variables, and the search in PATH.

use super::command::{Isolation, Options};
use super::print::Line;
use super::sys::{self, Action, Errno, Fd, Signals, Strings};
use super::{personality::Personality, signals, text};

/// What the process was started with, and what the child gets back.
#[derive(Debug)]
pub struct Inherited {
    /// The signal mask.
    pub mask: Signals,
    /// The disposition of SIGCHLD, the only one that we change.
    pub child_action: Action,
}

/// Whether the child takes over a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Terminal {
    /// We were in its foreground: the child's group is put there.
    Foreground,
    /// We gave it up (or had none): the child makes it its session's.
    Session,
    /// Not ours.
    None,
}

/// Prepares the terminal before the fork. Only what was ours is handed over.
pub fn terminal(options: &Options) -> Terminal {
    match options.isolation {
        Isolation::None => Terminal::None,
        Isolation::Group if sys::owns_foreground() => Terminal::Foreground,
        Isolation::Group => Terminal::None,
        Isolation::Session => {
            if sys::leave_terminal().is_ok() && sys::leads_session() {
                // The kernel tells a session that lost its terminal by HUP and CONT, in the name of its leader: those
                // are not the child's. One that somebody sent before has swallowed the kernel's, and goes back.
                for signal in [signals::HUP, signals::CONT] {
                    if sys::take_pending(Signals(1 << (signal - 1)))
                        .is_some_and(|sender| sender != sys::pid())
                    {
                        let _ = sys::kill(sys::pid(), signal);
                    }
                }
            }
            Terminal::Session
        }
    }
}

/// The child's side of the fork: never returns.
pub fn child(
    options: &Options,
    inherited: &Inherited,
    terminal: Terminal,
    arguments: &mut Strings,
    environment: &mut Strings,
) -> ! {
    match options.isolation {
        Isolation::Group => sys::new_group(),
        Isolation::Session => {
            let _ = sys::new_session();
        }
        Isolation::None => {}
    }
    match terminal {
        // TTOU is still blocked, so that a background group may do this.
        Terminal::Foreground => sys::take_foreground(),
        Terminal::Session => {
            let _ = sys::take_terminal();
        }
        Terminal::None => {}
    }
    let pid = Line::new()
        .text(b"LISTEN_PID=")
        .number(sys::pid())
        .text(b"\0");
    give_listen_pid(environment, pid.as_bytes());
    sys::set_action(signals::CHLD, inherited.child_action);
    let program = options.program.unwrap_or(0);
    sys::set_mask(inherited.mask);
    let errno = search(arguments, program, environment);
    report(options.personality, arguments.get(program), errno);
    sys::exit(failure_code(options.personality, errno))
}

/// The exit code when the program cannot be executed.
fn failure_code(personality: Personality, errno: Errno) -> u8 {
    match (personality, errno) {
        (Personality::DumbInit, _) => 2,
        (Personality::Own | Personality::Tini, Errno::ENOENT) => 127,
        (Personality::Own | Personality::Tini, Errno::EACCES) => 126,
        _ => 1,
    }
}

/// Socket activation names the process that the sockets are for: us before, the child now.
fn give_listen_pid(environment: &mut Strings, ours: &[u8]) {
    for at in 0..environment.len() {
        let Some(value) = environment.get(at).strip_prefix(b"LISTEN_PID=") else {
            continue;
        };
        let parent = Line::new().number(sys::parent());
        if value == parent.as_bytes() {
            environment.set(at, ours);
        }
    }
}

fn report(personality: Personality, program: &[u8], errno: Errno) {
    let line = match personality {
        Personality::DumbInit => Line::new().text(b"[dumb-init] ").text(program).text(b": "),
        Personality::Catatonit => Line::new()
            .text(b"ERROR (catatonit:")
            .number(sys::pid())
            .text(b"): failed to exec pid1: "),
        _ => Line::new()
            .text(b"[FATAL tini (")
            .number(sys::pid())
            .text(b")] exec ")
            .text(program)
            .text(b" failed: "),
    };
    let words = text::errno(errno);
    let line = if words.is_empty() {
        line.text(b"errno ").number(errno.0)
    } else {
        line.text(words)
    };
    line.send(Fd::STDERR);
}

/// Executes as execvp(3) does: by PATH if the name has no slash; what is permitted somewhere wins over what is missing.
fn search(arguments: &mut Strings, program: usize, environment: &Strings) -> Errno {
    let name = arguments.get(program);
    if name.is_empty() {
        return Errno::ENOENT;
    }
    if name.contains(&b'/') {
        return attempt(b"", arguments, program, environment);
    }
    let path = (0..environment.len())
        .find_map(|at| environment.get(at).strip_prefix(b"PATH="))
        .unwrap_or(b"/bin:/usr/bin");
    let mut result = Errno::ENOENT;
    for directory in path.split(|byte| *byte == b':') {
        match attempt(directory, arguments, program, environment) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => result = Errno::EACCES,
            other => return other,
        }
    }
    result
}

/// Executes `directory/name`; a file without a known format goes to the shell, as POSIX has it.
fn attempt(
    directory: &[u8],
    arguments: &mut Strings,
    program: usize,
    environment: &Strings,
) -> Errno {
    const NAME_TOO_LONG: Errno = Errno(36);
    let name = arguments.get(program);
    let mut buffer = [0; 4096];
    let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
    let length = directory.len() + slash.len() + name.len();
    let Some(path) = buffer.get_mut(..=length) else {
        return NAME_TOO_LONG;
    };
    for (to, from) in path
        .iter_mut()
        .zip(directory.iter().chain(slash).chain(name))
    {
        *to = *from;
    }
    let errno = sys::execute(path, arguments, program, environment);
    if errno != Errno::ENOEXEC || program == 0 {
        return errno;
    }
    // Our own words stand before the program's, so there is a place for the shell's name.
    arguments.set(program, path);
    arguments.set(program - 1, b"sh\0");
    sys::execute(b"/bin/sh\0", arguments, program - 1, environment)
}
