//! PID 1: ocirun-init beside tini, dumb-init and catatonit.
//!
//! Each init runs as PID 1 of a PID namespace that the measurement made, and is signalled by its own number only.
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a fork and what its child does are one step"
)]
#![expect(
    unsafe_code,
    reason = "fork, clone into a PID namespace and exec with a given signal mask"
)]

use std::ffi::CString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::ptr;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// One figure of one program.
#[derive(Debug, Clone)]
pub struct Row {
    /// The init.
    pub program: String,
    /// What was measured.
    pub what: &'static str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

/// How long and how often to measure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Starts with one SIGTERM each, by a launcher that blocks signals.
    pub starts: u32,
    /// The same by one that blocks nothing; each loss takes two seconds to be sure of.
    pub unblocked_starts: u32,
    /// Zombies at once.
    pub zombies: u32,
    /// Seconds at rest.
    pub idle: u64,
}

/// Whether the launcher blocks signals before the exec.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Launcher {
    BlocksAll,
    BlocksNothing,
}

/// Measures every program; a missing one gets no row.
///
/// # Errors
/// The first call that the system refused, in words.
pub fn run(programs: &[PathBuf], effort: Effort) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for program in programs.iter().filter(|program| program.exists()) {
        let name = program.display().to_string();
        let mut row = |what, value, unit| {
            rows.push(Row {
                program: name.clone(),
                what,
                value,
                unit,
            });
        };
        let size = fs::metadata(program)
            .map_err(|error| format!("stat {name}: {error}"))?
            .len();
        row("size", as_f64(size), "bytes");
        for (launcher, starts, what) in [
            (
                Launcher::BlocksAll,
                effort.starts,
                "signals lost, launcher blocks them",
            ),
            (
                Launcher::BlocksNothing,
                effort.unblocked_starts,
                "signals lost, launcher blocks nothing",
            ),
        ] {
            let lost = lost_signals(program, launcher, starts)?;
            row(what, f64::from(lost), "signals");
        }
        let storm = storm(program, effort.zombies)?;
        row(
            "CPU per zombie",
            storm.cpu_ns / f64::from(effort.zombies) / 1000.0,
            "us",
        );
        row(
            "time until all zombies are gone",
            storm.elapsed.as_secs_f64() * 1000.0,
            "ms",
        );
        let rest = at_rest(program, effort.idle)?;
        row("wake-ups at rest", as_f64(rest.wakeups), "times");
        row("private memory", as_f64(rest.private_kb), "kB");
        row("resident memory", as_f64(rest.resident_kb), "kB");
    }
    Ok(rows)
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
const fn as_f64(value: u64) -> f64 {
    value as f64
}

/// The program that an init under measurement runs: this binary, told what to do by its first word.
fn own_binary() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("readlink /proc/self/exe: {error}"))
}

/// Carries out the part that an init runs, if the words ask for one. Does not return then.
pub fn payload(words: &[String]) {
    match words {
        [_, word] if word == "--victim" => victim(),
        [_, word, count] if word == "--zombies" => make_zombies(count.parse().unwrap_or(0)),
        _ => {}
    }
}

/// Unblocks everything and waits to be ended by a signal.
fn victim() -> ! {
    // SAFETY: an empty set on our own stack; this process has one thread.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
    loop {
        sleep(Duration::from_secs(3600));
    }
}

/// Lets a middle process collect `count` ended children, says so, and on a byte lets it go: all become the init's.
fn make_zombies(count: u32) -> ! {
    // SAFETY: this process has one thread, so its children may do anything; they make system calls only.
    unsafe {
        if libc::fork() == 0 {
            for _ in 0..count {
                if libc::fork() == 0 {
                    libc::_exit(0);
                }
            }
            // Each child only exits; by then the last has.
            libc::usleep(500_000);
            let mut byte = 0u8;
            libc::write(1, (&raw const byte).cast(), 1);
            libc::read(0, (&raw mut byte).cast(), 1);
            libc::_exit(0);
        }
        libc::wait(ptr::null_mut());
    }
    loop {
        sleep(Duration::from_secs(3600));
    }
}

/// Starts `program -- payload` as PID 1 of a new PID namespace; returns its number here.
fn start_as_pid_1(program: &Path, launcher: Launcher) -> Result<libc::pid_t, String> {
    let text = |path: &Path| {
        CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())
    };
    let words = [
        text(program)?,
        c"--".into(),
        text(&own_binary()?)?,
        c"--victim".into(),
    ];
    let mut argv: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    argv.push(ptr::null());
    let variable = c"OCIRUN_INIT_MASK=0000000000000000";
    let envp = [variable.as_ptr(), ptr::null()];
    let flags = libc::CLONE_NEWPID | libc::SIGCHLD;
    // SAFETY: a fork by clone without a stack, from a process with one thread; the child only sets its mask and executes
    // words that were made before.
    unsafe {
        let mut set = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        // Blocked before the clone: a child that unblocks nothing is never without its mask.
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, &raw mut before);
        let pid = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0);
        if pid == 0 {
            if launcher == Launcher::BlocksNothing {
                libc::sigemptyset(&raw mut set);
                libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
            }
            libc::execve(argv[0], argv.as_ptr(), envp.as_ptr());
            libc::_exit(127);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        libc::pid_t::try_from(pid)
            .ok()
            .filter(|pid| *pid > 1)
            .ok_or_else(|| format!("clone(CLONE_NEWPID): {}", std::io::Error::last_os_error()))
    }
}

/// Whether a child of ours ends within the time; reaps it then.
fn ends_within(pid: libc::pid_t, limit: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        // SAFETY: waits for one child of ours, without a place for its status.
        if unsafe { libc::waitpid(pid, ptr::null_mut(), libc::WNOHANG) } == pid {
            return true;
        }
        sleep(Duration::from_micros(200));
    }
    false
}

/// Starts, one TERM at a random moment of the first 3 ms, and counts those that nobody acted on.
fn lost_signals(program: &Path, launcher: Launcher, starts: u32) -> Result<u32, String> {
    let mut lost = 0;
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..starts {
        // xorshift64: the same moments for each program.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let moment = Duration::from_nanos(random % 3_000_000);
        let pid = start_as_pid_1(program, launcher)?;
        let start = Instant::now();
        while start.elapsed() < moment {
            std::hint::spin_loop();
        }
        // SAFETY: pid is a child of ours that is not reaped, and above 1.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        if !ends_within(pid, Duration::from_secs(2)) {
            lost += 1;
            // SAFETY: as before; KILL of PID 1 ends its namespace.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            if !ends_within(pid, Duration::from_secs(10)) {
                return Err(format!("{} outlives KILL", program.display()));
            }
        }
    }
    Ok(lost)
}

/// An init as PID 1 by unshare(1), which ends with us.
struct Held {
    outer: Child,
    pid: u32,
}

impl Held {
    fn start(program: &Path, words: &[&str]) -> Result<Self, String> {
        let outer = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--"])
            .arg(program)
            .arg("--")
            .arg(own_binary()?)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut held = Self { outer, pid: 0 };
        for _ in 0..1000 {
            sleep(Duration::from_millis(2));
            let Some(pid) = children(held.outer.id()).first().copied() else {
                continue;
            };
            if !children(pid).is_empty() {
                held.pid = pid;
                return Ok(held);
            }
        }
        Err(format!("{} did not start its child", program.display()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Nanoseconds on the processor.
fn cpu_ns(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0.0)
}

/// A number from a file of `key: number` lines.
fn number(pid: u32, file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

struct Storm {
    cpu_ns: f64,
    elapsed: Duration,
}

fn storm(program: &Path, count: u32) -> Result<Storm, String> {
    let mut held = Held::start(program, &["--zombies", &count.to_string()])?;
    let mut byte = [0];
    let stdout = held.outer.stdout.as_mut().ok_or("no pipe")?;
    stdout
        .read_exact(&mut byte)
        .map_err(|error| format!("read the payload's byte: {error}"))?;
    let before = cpu_ns(held.pid);
    let start = Instant::now();
    held.outer
        .stdin
        .as_mut()
        .ok_or("no pipe")?
        .write_all(&byte)
        .map_err(|error| error.to_string())?;
    let main = children(held.pid).first().copied().ok_or("no payload")?;
    // The middle process is gone, and with it the last of its children is the init's; then only the payload is left.
    while !(children(main).is_empty() && children(held.pid).len() == 1) {
        if start.elapsed() > Duration::from_secs(60) {
            return Err(format!(
                "{}: zombies are left after a minute",
                program.display()
            ));
        }
    }
    let elapsed = start.elapsed();
    sleep(Duration::from_millis(50));
    Ok(Storm {
        cpu_ns: cpu_ns(held.pid) - before,
        elapsed,
    })
}

struct Rest {
    wakeups: u64,
    private_kb: u64,
    resident_kb: u64,
}

fn at_rest(program: &Path, seconds: u64) -> Result<Rest, String> {
    let held = Held::start(program, &["--victim"])?;
    sleep(Duration::from_millis(300));
    let switches = || number(held.pid, "status", "voluntary_ctxt_switches");
    let before = switches();
    sleep(Duration::from_secs(seconds));
    let wakeups = switches() - before;
    let rollup = |key| number(held.pid, "smaps_rollup", key);
    let private_kb = rollup("Anonymous");
    Ok(Rest {
        wakeups,
        private_kb,
        resident_kb: rollup("Rss"),
    })
}
