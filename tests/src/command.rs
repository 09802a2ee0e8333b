//! Calls of a program with a time limit and with its output in files, so that a container that outlives the call and
//! keeps the descriptors open makes nobody wait for an end of file.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::TIME_LIMIT;

/// A call that is being put together.
#[derive(Debug)]
pub struct Invocation {
    command: Command,
    stdin: Option<Vec<u8>>,
}

impl Invocation {
    /// A call of this program, with nothing on standard input.
    #[must_use]
    pub fn new(program: &Path) -> Self {
        Self {
            command: Command::new(program),
            stdin: None,
        }
    }

    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// The same program and arguments as the last arguments of another call: of `words` and `more`.
    #[must_use]
    pub fn words_behind(self, words: &[&str], more: &Path) -> Self {
        let mut command = Command::new(words.first().copied().unwrap_or_default());
        command.args(words.iter().skip(1)).arg(more);
        command.arg(self.command.get_program());
        command.args(self.command.get_args());
        Self { command, ..self }
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts in this directory.
    #[must_use]
    pub fn directory(mut self, path: &Path) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Makes the program believe it has this name (`argv[0]`).
    #[must_use]
    pub fn called(mut self, name: &str) -> Self {
        self.command.arg0(name);
        self
    }

    /// Runs as another user, without supplementary groups.
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.command.uid(uid).gid(gid);
        self
    }

    /// Gives these bytes on standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Uses this descriptor for standard input, output and error: a terminal.
    ///
    /// # Panics
    /// When it cannot be duplicated, or the program cannot be started.
    #[must_use]
    pub fn start_on(mut self, terminal: &OwnedFd) -> Running {
        let copy = || Stdio::from(terminal.try_clone().expect("duplicate the terminal"));
        self.command.stdin(copy()).stdout(copy()).stderr(copy());
        self.spawn(temporary_file(), temporary_file())
    }

    /// Starts it, and does not wait.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn start(mut self) -> Running {
        let (stdout, stderr) = (temporary_file(), temporary_file());
        let stdin = match &self.stdin {
            None => Stdio::null(),
            Some(bytes) => {
                let mut file = tempfile::tempfile().expect("make a temporary file");
                file.write_all(bytes).expect("write standard input");
                std::io::Seek::rewind(&mut file).expect("rewind");
                Stdio::from(file)
            }
        };
        self.command.stdin(stdin);
        self.command
            .stdout(stdout.try_clone().expect("duplicate a file"));
        self.command
            .stderr(stderr.try_clone().expect("duplicate a file"));
        self.spawn(stdout, stderr)
    }

    fn spawn(mut self, stdout: File, stderr: File) -> Running {
        let line = format!("{:?}", self.command);
        let child = self
            .command
            .spawn()
            .unwrap_or_else(|error| panic!("start {line}: {error}"));
        Running {
            child,
            line,
            stdout,
            stderr,
        }
    }

    /// Starts it, and waits for its end.
    ///
    /// # Panics
    /// As [`Running::finish`].
    #[must_use]
    #[track_caller]
    pub fn finish(self) -> Finished {
        self.start().finish()
    }
}

fn temporary_file() -> File {
    tempfile::tempfile().expect("make a temporary file")
}

/// A call under way. Dropped before its end, it is killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    line: String,
    stdout: File,
    stderr: File,
}

impl Running {
    /// The process id of the program called.
    #[must_use]
    pub fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    /// What it wrote on standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        contents(&self.stdout)
    }

    /// What it wrote on standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        contents(&self.stderr)
    }

    /// True once it has ended.
    ///
    /// # Panics
    /// When waitpid(2) fails.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// After [`TIME_LIMIT`], with the output so far; the program is killed then.
    #[must_use]
    #[track_caller]
    pub fn finish(self) -> Finished {
        self.finish_in_time()
            .unwrap_or_else(|words| panic!("{words}"))
    }

    /// Waits for the end; what is still running after the time limit is killed and described.
    pub(crate) fn finish_in_time(mut self) -> Result<Finished, String> {
        let end = Instant::now() + TIME_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                let line = std::mem::take(&mut self.line);
                let (stdout, stderr) = (clone(&self.stdout), clone(&self.stderr));
                return Ok(Finished {
                    line,
                    status,
                    stdout,
                    stderr,
                });
            }
            if Instant::now() > end {
                let (stdout, stderr) = (self.stdout(), self.stderr());
                let line = &self.line;
                return Err(format!(
                    "still running after {TIME_LIMIT:?}: {line}\nstdout: {stdout}\nstderr: {stderr}"
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ended = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

fn clone(file: &File) -> File {
    file.try_clone().expect("duplicate a file")
}

/// The whole file, without moving the offset that it shares with its writer.
fn contents(file: &File) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match file
            .read_at(&mut buffer, bytes.len() as u64)
            .expect("read an output file")
        {
            0 => return String::from_utf8_lossy(&bytes).into_owned(),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// A call that has ended. What a detached container writes later is still seen.
#[derive(Debug)]
pub struct Finished {
    line: String,
    status: ExitStatus,
    stdout: File,
    stderr: File,
}

impl Finished {
    /// The exit code.
    ///
    /// # Panics
    /// When a signal ended the program.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("{self}"))
    }

    /// The signal that ended the program called.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Standard output up to now.
    #[must_use]
    pub fn stdout(&self) -> String {
        contents(&self.stdout)
    }

    /// Standard error up to now.
    #[must_use]
    pub fn stderr(&self) -> String {
        contents(&self.stderr)
    }

    /// Standard error without the quoting of the text log.
    #[must_use]
    pub fn message(&self) -> String {
        self.stderr().replace("\\\"", "\"").replace("\\n", "\n")
    }

    /// Goes on only if the exit code is 0.
    ///
    /// # Panics
    /// With all that is known of the call, if it is another.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// True if standard error contains `text`. Letters count the same in both cases, as they do for podman and Docker,
    /// which search for the words of errno (runc writes them as Go has them, others as strerror(3) has them).
    #[must_use]
    pub fn says(&self, text: &str) -> bool {
        self.message().to_lowercase().contains(&text.to_lowercase())
    }

    /// Goes on only if the exit code is this one, and the program [says](Self::says) `text`.
    ///
    /// # Panics
    /// With all that is known of the call, otherwise.
    #[track_caller]
    pub fn fails(self, code: i32, text: &str) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        assert!(self.says(text), "no {text:?} in: {self}");
        self
    }

    /// Each line of standard output as JSON: the steps of a probe.
    ///
    /// # Panics
    /// When a line is no JSON.
    #[must_use]
    #[track_caller]
    pub fn values(&self) -> Vec<Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in: {self}"))
        };
        self.stdout().lines().map(parse).collect()
    }

    /// The last line of standard output as JSON.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn value(&self) -> Value {
        self.values()
            .pop()
            .unwrap_or_else(|| panic!("no output: {self}"))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n{}\nstdout: {}\nstderr: {}",
            self.line,
            self.status,
            self.stdout(),
            self.stderr()
        )
    }
}
