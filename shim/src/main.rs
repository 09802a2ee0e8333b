//! `ocirun-shim POD`: one process a pod, which creates its containers, keeps their streams, and tells how they end.
//!
//! It returns when the pod is ready: a child of it, in a session of its own, serves. Whatever becomes of who started
//! it, that goes on, and is ended by `Shutdown`; killed, it is replaced by starting it again.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::Mode;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, pipe2};
use ocirun_shim::files::PodDirectory;
use runtime_core::kernel::clone::{Parent, Side, fork_into};
use runtime_core::kernel::fd::close_all_but;
use runtime_core::kernel::process;

mod connection;
mod container;
mod disk;
mod failure;
mod init;
mod job;
mod keeper;
mod messages;
mod pod;
mod reactor;
mod shim;

use failure::{Call, Failure, Result};

const HELP: &str = "usage: ocirun-shim POD

Serves the pod of the directory POD, in which pod.json says what it is to be, on POD/shim.sock.
It returns when the pod is ready, and goes on in the background until it is shut down.
";

/// Most bytes of `shim.log`: it begins anew then.
const LONGEST_LOG: u64 = 1 << 20;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let directory = match (args.next(), args.next()) {
        (Some(word), None) if word == "--version" => {
            println!("ocirun-shim {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        (Some(word), None) if word == "--help" || word == "-h" => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        (Some(word), None) if !word.as_encoded_bytes().starts_with(b"-") => PathBuf::from(word),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match launch(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ocirun-shim: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the process that serves, and waits until it does.
fn launch(directory: &Path) -> Result<()> {
    runtime_core::seal::ensure_sealed()?;
    let path = std::fs::canonicalize(directory).call(|| format!("open({directory:?})"))?;
    let directory = PodDirectory::new(path);
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).call(|| "pipe2(O_CLOEXEC)")?;
    let side = fork_into(CloneFlags::empty(), None, Parent::Caller).call(|| "clone3()")?;
    if matches!(side, Side::Child) {
        drop(reader);
        serve(&directory, writer);
    }
    drop(writer);
    let mut words = String::new();
    File::from(reader)
        .read_to_string(&mut words)
        .call(|| "read(pipe)")?;
    match words.strip_prefix('\n') {
        Some("") => Ok(()),
        _ if words.is_empty() => Err(Failure::os("the process that serves", Errno::ECHILD)),
        _ => Err(Failure::new(ocirun_shim::wire::Code::Unknown, words)),
    }
}

/// The process that serves. A single newline tells that it does, other words why not.
fn serve(directory: &PodDirectory, ready: OwnedFd) -> ! {
    let prepared = prepare(directory, &ready);
    let mut ready = File::from(ready);
    let (lock, mut shim) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            let _ = ready.write_all(failure.text.as_bytes());
            process::exit_now(1)
        }
    };
    let _ = ready.write_all(b"\n");
    drop(ready);
    let code = match shim.run() {
        Ok(()) => 0,
        Err(failure) => {
            log(&failure.text);
            1
        }
    };
    // Held until here.
    drop(lock);
    process::exit_now(code)
}

fn prepare(directory: &PodDirectory, ready: &OwnedFd) -> Result<(File, shim::Shim)> {
    nix::unistd::setsid().call(|| "setsid()")?;
    // A program that was executed by a descriptor has the name of that.
    nix::sys::prctl::set_name(c"ocirun-shim").call(|| "prctl(PR_SET_NAME)")?;
    nix::unistd::chdir("/").call(|| "chdir(\"/\")")?;
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    let kept = [ready.as_raw_fd()];
    close_all_but(3, kept).call(|| "close_range()")?;
    let lock = lock(directory)?;
    detach(directory)?;
    nix::sys::prctl::set_child_subreaper(true).call(|| "prctl(PR_SET_CHILD_SUBREAPER)")?;
    let signals = hold_signals()?;
    let pod = pod::Pod::open(directory.clone())?;
    let listener = listen_at(&directory.socket())?;
    let shim = shim::Shim::new(pod, signals, listener)?;
    Ok((lock, shim))
}

/// `F_WRLCK` and `SEEK_SET`, in the size that `struct flock` has them in.
const WRITE_LOCK: libc::c_short = 1;
/// See [`WRITE_LOCK`].
const FROM_START: libc::c_short = 0;

/// Makes this process the only one of the pod: as long as it lives it holds the lock of `shim.pid`, which unlike one of
/// flock(2) its forks have no part in.
fn lock(directory: &PodDirectory) -> Result<File> {
    let path = directory.pid_file();
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let mut file = options
        .open(&path)
        .call(|| format!("open({path:?}, O_CREAT)"))?;
    let whole = libc::flock {
        l_type: WRITE_LOCK,
        l_whence: FROM_START,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(&file, FcntlArg::F_SETLK(&whole)) {
        Err(Errno::EAGAIN | Errno::EACCES) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let text = format!("{path:?}: a shim serves this pod already: {pid}");
            return Err(Failure::new(ocirun_shim::wire::Code::AlreadyExists, text));
        }
        locked => locked.call(|| format!("fcntl({path:?}, F_SETLK)"))?,
    };
    file.set_len(0).call(|| format!("ftruncate({path:?})"))?;
    file.write_all(std::process::id().to_string().as_bytes())
        .call(|| format!("write({path:?})"))?;
    Ok(file)
}

/// Lets go of the caller's standard streams: what this program has to say goes to `shim.log`.
fn detach(directory: &PodDirectory) -> Result<()> {
    let path = directory.log();
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    let log = options
        .open(&path)
        .call(|| format!("open({path:?}, O_APPEND)"))?;
    let null = null()?;
    dup2_stdin(&null).call(|| "dup2(0)")?;
    dup2_stdout(&null).call(|| "dup2(1)")?;
    dup2_stderr(&log).call(|| "dup2(2)")
}

fn null() -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
        .open("/dev/null")
        .call(|| "open(\"/dev/null\", O_RDWR)")
}

/// For a child whose program is not to have this program's log.
fn close_standard_error() -> Result<()> {
    dup2_stderr(null()?).call(|| "dup2(2)")
}

fn hold_signals() -> Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.add(Signal::SIGTERM);
    // Nobody's terminal is ours, and nobody means us by these.
    let mut blocked = signals;
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGPIPE,
    ] {
        blocked.add(signal);
    }
    blocked.thread_block().call(|| "sigprocmask(SIG_BLOCK)")?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&signals, flags).call(|| "signalfd()")
}

/// Listens at a name that is there only once somebody listens.
fn listen_at(path: &Path) -> Result<OwnedFd> {
    let new = path.with_extension("new");
    disk::remove(&new)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .call(|| "socket(AF_UNIX, SOCK_STREAM)")?;
    let address = UnixAddr::new(&new).call(|| format!("bind({new:?})"))?;
    let mask = nix::sys::stat::umask(Mode::from_bits_truncate(0o177));
    let bound = bind(listener.as_raw_fd(), &address);
    nix::sys::stat::umask(mask);
    bound.call(|| format!("bind({new:?})"))?;
    let backlog = Backlog::new(64).call(|| "listen(64)")?;
    listen(&listener, backlog).call(|| "listen(64)")?;
    std::fs::rename(&new, path).call(|| format!("rename({new:?}, {path:?})"))?;
    Ok(listener)
}

/// A line of `shim.log`.
fn log(text: &str) {
    let line = format!("{} {text}\n", keeper::stamp(disk::now()));
    if let Ok(file) = nix::unistd::dup(std::io::stderr()) {
        let mut file = File::from(file);
        let is_long = file
            .metadata()
            .is_ok_and(|found| found.is_file() && found.len() > LONGEST_LOG);
        if is_long {
            let _ = file.set_len(0);
        }
        let _ = file.write_all(line.as_bytes());
    }
}
