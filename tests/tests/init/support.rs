//! The init under test, started plainly or as PID 1 of a private PID namespace, and what it did.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ocirun_tests::TIME_LIMIT;

/// What a case says of the init: nothing, or what was wrong.
pub type Outcome = Result<(), String>;

/// Whose command line a case speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// tini.
    Tini,
    /// dumb-init.
    DumbInit,
    /// catatonit.
    Catatonit,
    /// The pause program.
    Pause,
    /// Only ours.
    Own,
    /// Whatever there is.
    Any,
}

/// The program under test.
#[derive(Debug)]
pub struct Subject {
    program: PathBuf,
    /// What a peer is; ours is everything.
    pub peer: Option<Kind>,
    names: PathBuf,
}

impl Subject {
    /// From INIT=, by default the program that this build embeds.
    pub fn from_environment() -> Self {
        let names = std::env::temp_dir().join(format!("ocirun-init-test.{}", std::process::id()));
        fs::create_dir(&names).expect("a fresh directory");
        let ours = names.join("ocirun-init");
        let program = std::env::var_os("INIT").map(PathBuf::from);
        let peer = program.as_deref().and_then(peer_kind);
        let program = program.unwrap_or_else(|| {
            fs::write(&ours, ocirun_init::PROGRAM).expect("the program is written");
            fs::set_permissions(&ours, fs::Permissions::from_mode(0o755))
                .expect("the program is executable");
            ours
        });
        if peer.is_none() {
            for name in ["tini", "dumb-init", "catatonit", "pause"] {
                symlink(&program, names.join(name)).expect("a name for the program");
            }
        }
        Self {
            program,
            peer,
            names,
        }
    }

    /// Whether a case of this kind can be run on the program.
    pub fn speaks(&self, kind: Kind) -> bool {
        self.peer
            .is_none_or(|peer| kind == Kind::Any || kind == peer)
    }

    /// The program by the name that makes it speak so.
    pub fn path(&self, kind: Kind) -> PathBuf {
        let name = match kind {
            _ if self.peer.is_some() => return self.program.clone(),
            Kind::Tini => "tini",
            Kind::DumbInit => "dumb-init",
            Kind::Catatonit => "catatonit",
            Kind::Pause => "pause",
            Kind::Own | Kind::Any => return self.program.clone(),
        };
        self.names.join(name)
    }

    /// A start that is not yet made.
    pub fn start(&self, kind: Kind, words: &[&str]) -> Start {
        let mut line = vec![self.path(kind).display().to_string()];
        if kind == Kind::Any {
            // Debian's tini and catatonit read options behind the program too, unless told to stop.
            line.push("--".into());
        }
        line.extend(words.iter().map(ToString::to_string));
        Start {
            line,
            environment: Vec::new(),
            input: None,
            wrap: Vec::new(),
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.names);
    }
}

fn peer_kind(program: &Path) -> Option<Kind> {
    match program.file_name()?.to_str()? {
        "tini" | "tini-static" | "docker-init" => Some(Kind::Tini),
        "dumb-init" => Some(Kind::DumbInit),
        "catatonit" => Some(Kind::Catatonit),
        "pause" => Some(Kind::Pause),
        _ => None,
    }
}

/// How the init is to be started.
#[derive(Debug)]
pub struct Start {
    line: Vec<String>,
    environment: Vec<(String, String)>,
    input: Option<Vec<u8>>,
    wrap: Vec<String>,
}

impl Start {
    /// With a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// With these bytes on its standard input.
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.input = Some(bytes.to_vec());
        self
    }

    /// By another program, whose words stand before.
    pub fn by(mut self, words: &[&str]) -> Self {
        self.wrap
            .splice(0..0, words.iter().map(ToString::to_string));
        self
    }

    /// As the last words of another program, in a terminal too.
    pub fn behind(mut self, words: &[&str]) -> Self {
        self.line
            .splice(0..0, words.iter().map(ToString::to_string));
        self
    }

    /// As PID 1 of a private PID namespace with its own /proc; it dies with us.
    pub fn in_namespace(self) -> Running {
        let mut start = self.by(&[
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ]);
        start.wrap.append(&mut start.line);
        start.line = std::mem::take(&mut start.wrap);
        start.spawn(true)
    }

    /// As an ordinary process.
    pub fn plainly(mut self) -> Running {
        let mut line = std::mem::take(&mut self.wrap);
        line.append(&mut self.line);
        self.line = line;
        self.spawn(false)
    }

    /// In a terminal of its own, fed with `input`; nothing else of it is seen.
    pub fn in_terminal(self, input: &[u8]) -> Running {
        let quoted: Vec<String> = self
            .line
            .iter()
            .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
            .collect();
        let line = ["script", "-qec", &quoted.join(" "), "/dev/null"]
            .map(String::from)
            .to_vec();
        Self {
            line,
            input: Some(input.to_vec()),
            ..self
        }
        .spawn(false)
    }

    fn spawn(self, in_namespace: bool) -> Running {
        let input = if self.input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let mut child = Command::new(&self.line[0])
            .args(&self.line[1..])
            .envs(self.environment)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdin = child.stdin.take();
        let mut running = Running {
            child,
            in_namespace,
            stdin,
        };
        if let Some(bytes) = self.input {
            running.write(&bytes);
        }
        running
    }
}

/// A started init.
#[derive(Debug)]
pub struct Running {
    child: Child,
    in_namespace: bool,
    stdin: Option<std::process::ChildStdin>,
}

/// How an init ended and what was written.
#[derive(Debug)]
pub struct Ended {
    /// The exit code, or 128 and the signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Running {
    /// Writes to its standard input.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(bytes).and_then(|()| stdin.flush());
        }
    }

    /// The init's own number, seen from here.
    pub fn pid(&self) -> i32 {
        let own = i32::try_from(self.child.id()).expect("a pid");
        if !self.in_namespace {
            return own;
        }
        until(|| children(own).first().copied()).expect("PID 1 of the namespace")
    }

    /// The number of the init's first child, once it has executed its program.
    pub fn main_child(&self) -> i32 {
        let init = self.pid();
        let exe = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).ok();
        until(|| {
            let child = children(init).first().copied()?;
            let its = exe(child)?;
            (its != exe(init)?).then_some(child)
        })
        .expect("the init's child")
    }

    /// Sends a signal to the init.
    pub fn signal(&self, number: i32) {
        send(self.pid(), number);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Waits until the file has all these words: what the program in the init wrote there.
    pub fn await_file(&self, file: &Path, words: &str) -> Outcome {
        until(|| {
            fs::read_to_string(file)
                .ok()
                .filter(|text| text.contains(words))
                .map(drop)
        })
        .ok_or_else(|| {
            format!(
                "{} never said {words:?}: {:?}",
                file.display(),
                fs::read_to_string(file)
            )
        })
    }

    /// Waits for the end, at most [`TIME_LIMIT`].
    pub fn end(mut self) -> Result<Ended, String> {
        self.stdin = None;
        if until(|| self.child.try_wait().ok().flatten()).is_none() {
            return Err(format!("still running after {TIME_LIMIT:?}"));
        }
        let status = self.child.wait().map_err(|error| error.to_string())?;
        let mut texts = [String::new(), String::new()];
        if let (Some(mut out), Some(mut err)) = (self.child.stdout.take(), self.child.stderr.take())
        {
            // Whoever outlives the init may hold the pipes open: what is there is taken, no end is waited for.
            texts = [drain(&mut out), drain(&mut err)];
        }
        let [out, err] = texts;
        Ok(Ended {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            out,
            err,
        })
    }

    /// Waits for the end and compares the exit code.
    pub fn ends_with(self, code: i32) -> Result<Ended, String> {
        let ended = self.end()?;
        same(
            ended.code,
            code,
            &format!("exit code; stderr {:?}", ended.err),
        )?;
        Ok(ended)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let own = i32::try_from(self.child.id()).unwrap_or(0);
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            for child in children(own) {
                for grandchild in children(child) {
                    send(grandchild, 9);
                }
                send(child, 9);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn drain(pipe: &mut (impl std::io::Read + std::os::fd::AsFd)) -> String {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let _ = fcntl(pipe.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    let mut bytes = Vec::new();
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends a signal to one process that we started.
pub fn send(pid: i32, number: i32) {
    assert!(pid > 1, "never a group, never everybody");
    if let Ok(signal) = Signal::try_from(number) {
        let _ = kill(Pid::from_raw(pid), signal);
    } else {
        let _ = Command::new("/bin/kill")
            .args([format!("-{number}"), pid.to_string()])
            .status();
    }
}

/// The children of a process.
pub fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// A line of /proc/PID/status.
pub fn status(pid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or("").trim().to_owned()
}

/// Asks again until there is an answer, for [`TIME_LIMIT`].
pub fn until<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    while start.elapsed() < TIME_LIMIT {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Two values that must be the same.
pub fn same<T: PartialEq + std::fmt::Debug>(is: T, wanted: T, what: &str) -> Outcome {
    if is == wanted {
        Ok(())
    } else {
        Err(format!("{what}: {is:?}, not {wanted:?}"))
    }
}

/// Something that must hold.
pub fn holds(it: bool, what: &str) -> Outcome {
    if it { Ok(()) } else { Err(what.to_owned()) }
}

/// A directory of a case's own, removed with it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A fresh one.
    pub fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("ocirun-init-case.{}.{number}", std::process::id()));
        fs::create_dir(&path).expect("a fresh directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777))
            .expect("a directory for everybody");
        Self(path)
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
