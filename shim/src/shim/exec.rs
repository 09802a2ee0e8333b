//! A process in a container whose output is captured: a probe, or a hook of the pod's lifecycle. One whose streams the
//! caller has is in [`stream`].

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::epoll::EpollFlags;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, read};
use ocirun_shim::wire::{Code, ExecOutput, ExecRequest, Exit};
use prost::Message;
use runtime_core::kernel::pidfd;
use runtime_core::spec::Process;
use runtime_core::{Container as Runtime, ExecOptions, Root, Terminal};

use super::{Shim, Task};
use crate::connection::CallId;
use crate::container::{Ended, Phase};
use crate::disk::{self, now};
use crate::failure::{Call, Failure, Result};
use crate::job::{Answer, Job};
use crate::reactor::{Source, Timer, Token};

mod stream;

use stream::Caller;
pub(super) use stream::send_streams;

/// Bytes of each stream that are kept, where the request says nothing.
const LIMIT: u64 = 16 << 20;

/// How the names of groups begin.
const GROUP: &str = "exec-";

/// Bytes of a part of the output: what a pipe holds.
const PART: usize = 64 << 10;

/// Most parts read at once, so that others get their turn, and that who prints without end does not keep a call open
/// whose process has ended.
const MOST_READS: usize = 16;

/// A process and its output.
#[derive(Debug)]
pub(crate) struct Exec {
    call: CallId,
    container: String,
    /// Name of the cgroup that holds all that it starts.
    group: String,
    /// Once it is known.
    process: Option<(Pid, OwnedFd)>,
    /// Standard output and error, where they are captured.
    outputs: [Output; 2],
    /// Who has the streams, where they are not.
    caller: Option<Caller>,
    ended: Option<(Ended, i64)>,
    /// Why it was killed.
    killed: Option<Failure>,
    is_truncated: bool,
}

#[derive(Debug)]
struct Output {
    /// None once it has ended.
    pipe: Option<OwnedFd>,
    /// While it is listened to.
    token: Option<Token>,
    /// Bytes that are still kept.
    left: u64,
}

/// What reading an output came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// All that is there was read.
    Done,
    /// The receiver is slow.
    Full,
}

impl Exec {
    fn new(call: CallId, container: String, outputs: [Output; 2], caller: Option<Caller>) -> Self {
        Self {
            call,
            container,
            group: String::new(),
            process: None,
            outputs,
            caller,
            ended: None,
            killed: None,
            is_truncated: false,
        }
    }

    /// Whether it is the process `pid`.
    pub(super) fn is(&self, pid: Pid) -> bool {
        self.process.as_ref().is_some_and(|(own, _)| *own == pid)
    }
}

impl Shim {
    /// Begins to run a process.
    pub(super) fn exec(&mut self, call: CallId, request: ExecRequest) -> Result<()> {
        let process = self.process_in(&request.id, &request.process)?;
        if process.terminal {
            let text = "a terminal has no output to be captured";
            return Err(Failure::argument("process", text));
        }
        let limit = match request.output_limit {
            0 => LIMIT,
            limit => limit,
        };
        let (stdout, stdout_inside) = pipe()?;
        let (stderr, stderr_inside) = pipe()?;
        let output = |pipe| Output {
            pipe: Some(pipe),
            token: None,
            left: limit,
        };
        let exec = Exec::new(call, request.id, [output(stdout), output(stderr)], None);
        let streams = [None, Some(stdout_inside), Some(stderr_inside)];
        let number = self.begin_exec(exec, process, streams);
        if request.timeout_ms > 0 {
            let limit = Duration::from_millis(request.timeout_ms);
            self.reactor.after(limit, Timer::Exec(number));
        }
        Ok(())
    }

    /// The process of a request, for a container that runs.
    fn process_in(&mut self, id: &str, process: &[u8]) -> Result<Process> {
        if self.container(id)?.phase != Phase::Running {
            let text = format!("container {id:?} is not running");
            return Err(Failure::new(Code::FailedPrecondition, text));
        }
        serde_json::from_slice(process).map_err(|error| Failure::argument("process", error))
    }

    /// Gives an exec to a job, with the container's side of its streams.
    fn begin_exec(
        &mut self,
        mut exec: Exec,
        process: Process,
        streams: [Option<OwnedFd>; 3],
    ) -> u64 {
        self.last += 1;
        let number = self.last;
        exec.group = format!("{GROUP}{number}-{}", std::process::id());
        let work = Work {
            root: self.root.path().to_owned(),
            id: exec.container.clone(),
            group: exec.group.clone(),
            process,
            streams,
        };
        // What is not there is a standard stream, which is kept anyway.
        let kept = [0, 1, 2]
            .map(|index: usize| work.streams[index].as_ref().map_or(0, AsRawFd::as_raw_fd));
        let job = Job::start(kept, || work.run());
        self.execs.insert(number, exec);
        self.begin(job, Task::Exec(number));
        number
    }

    /// The job has ended: the process runs, or never did.
    pub(super) fn exec_has_begun(&mut self, number: u64, answer: Result<Answer>) {
        let Some(exec) = self.execs.get_mut(&number) else {
            return;
        };
        let begun = answer.and_then(|(pid, fds)| {
            let pid = pid.first_chunk().map(|pid| i32::from_ne_bytes(*pid));
            let mut fds = fds.into_iter();
            let pidfd = fds.next();
            let none = || Failure::new(Code::Internal, "exec: the job's answer is not whole");
            let (pid, pidfd) = pid.zip(pidfd).ok_or_else(none)?;
            Ok((pid, pidfd, fds.next()))
        });
        let (pid, pidfd, master) = match begun {
            Ok((pid, pidfd, master)) => (Pid::from_raw(pid), pidfd, master),
            Err(failure) => {
                exec.killed.get_or_insert(failure);
                self.kill_exec(number);
                return;
            }
        };
        exec.process = Some((pid, pidfd));
        if exec.killed.is_some() {
            self.kill_exec(number);
            return;
        }
        if exec.caller.is_some() {
            self.hand_over(number, master);
        }
        self.listen_to_exec(number);
        if let Some(ended) = self.stray(pid) {
            self.exec_has_ended(number, ended);
        }
    }

    fn listen_to_exec(&mut self, number: u64) {
        let Some(exec) = self.execs.get_mut(&number) else {
            return;
        };
        for (index, output) in exec.outputs.iter_mut().enumerate() {
            if let (Some(pipe), None) = (&output.pipe, output.token) {
                let source = Source::ExecOutput(number, index);
                output.token = self.reactor.watch(pipe, EpollFlags::EPOLLIN, source).ok();
            }
        }
    }

    /// An output has something, or has ended.
    pub(super) fn read_exec(&mut self, number: u64, index: usize) {
        if self.pump(number, index) == Reading::Full {
            // Until the receiver has taken what it was sent.
            self.deafen(number);
        }
        self.finish_exec(number);
    }

    /// Sends what can be read now.
    fn pump(&mut self, number: u64, index: usize) -> Reading {
        let mut buffer = vec![0; PART];
        for _ in 0..MOST_READS {
            let Some(exec) = self.execs.get_mut(&number) else {
                return Reading::Done;
            };
            let output = &mut exec.outputs[index];
            let Some(pipe) = &output.pipe else {
                return Reading::Done;
            };
            let Some(connection) = self.connections.get_mut(&exec.call.connection) else {
                return Reading::Done;
            };
            if connection.is_full() {
                return Reading::Full;
            }
            let length = match read(pipe, &mut buffer) {
                Err(Errno::EAGAIN) => return Reading::Done,
                Err(Errno::EINTR) => continue,
                Ok(0) | Err(_) => {
                    if let Some(token) = output.token.take() {
                        self.reactor.forget(pipe, token);
                    }
                    output.pipe = None;
                    return Reading::Done;
                }
                Ok(length) => length,
            };
            let kept = usize::try_from(output.left).map_or(length, |left| left.min(length));
            exec.is_truncated |= kept < length;
            output.left -= kept as u64;
            if kept > 0 {
                let part = buffer[..kept].to_vec();
                let message = match index {
                    0 => ExecOutput {
                        stdout: part,
                        ..ExecOutput::default()
                    },
                    _ => ExecOutput {
                        stderr: part,
                        ..ExecOutput::default()
                    },
                };
                connection.send(exec.call.stream, message.encode_to_vec());
            }
            if length < PART && exec.ended.is_none() {
                break;
            }
        }
        Reading::Done
    }

    fn deafen(&mut self, number: u64) {
        let Some(exec) = self.execs.get_mut(&number) else {
            return;
        };
        for output in &mut exec.outputs {
            if let (Some(pipe), Some(token)) = (&output.pipe, output.token.take()) {
                self.reactor.forget(pipe, token);
            }
        }
    }

    /// Goes on with what waited for its receiver.
    pub(super) fn resume_execs(&mut self) {
        let connections = &self.connections;
        let deaf = self.execs.iter().filter(|(_, exec)| {
            let waits = exec
                .outputs
                .iter()
                .any(|output| output.pipe.is_some() && output.token.is_none());
            let connection = connections.get(&exec.call.connection);
            let flows = connection.is_some_and(|connection| !connection.is_full());
            waits && flows && exec.process.is_some() && exec.killed.is_none()
        });
        let deaf: Vec<u64> = deaf.map(|(number, _)| *number).collect();
        for number in deaf {
            self.listen_to_exec(number);
        }
    }

    /// The process has ended, and was waited for.
    pub(super) fn exec_has_ended(&mut self, number: u64, ended: Ended) {
        if let Some(exec) = self.execs.get_mut(&number) {
            exec.ended = Some((ended, now()));
            self.finish_exec(number);
        }
    }

    /// Answers, if the process has ended and all that it printed was read. What its children print later is not waited
    /// for.
    fn finish_exec(&mut self, number: u64) {
        let Some(exec) = self.execs.get(&number) else {
            return;
        };
        if exec.ended.is_none() || exec.killed.is_some() {
            return;
        }
        for index in 0..2 {
            if self.pump(number, index) == Reading::Full {
                self.deafen(number);
                return;
            }
        }
        let Some(exec) = self.forget_exec(number) else {
            return;
        };
        let (ended, at) = exec.ended.unwrap_or_else(|| (Ended::UNKNOWN, now()));
        let last = ExecOutput {
            exit: Some(Exit {
                code: ended.code,
                signal: ended.signal,
                exited_at: at,
                unknown: ended.unknown,
                pid: exec.process.as_ref().map_or(0, |(pid, _)| pid.as_raw()),
                oom: false,
            }),
            truncated: exec.is_truncated,
            ..ExecOutput::default()
        };
        self.answer(exec.call, Ok(last.encode_to_vec()));
        self.leave_group(&exec);
    }

    /// What an exec left running is the container's now, in a cgroup that goes with the container's. The next shim is
    /// told before anybody hears of the end.
    fn leave_group(&mut self, exec: &Exec) {
        let Ok(runtime) = Runtime::open(&self.root, &exec.container) else {
            return;
        };
        let is_left = |name: &str| {
            let group = runtime.group(name);
            group.is_some_and(|group| group.remove().is_err())
        };
        if !is_left(&exec.group) {
            return;
        }
        let path = self.pod.directory().shim_file(&exec.container);
        let Some(container) = self.containers.get_mut(&exec.container) else {
            return;
        };
        container.file.left.retain(|name| is_left(name));
        container.file.left.push(exec.group.clone());
        if let Err(failure) = disk::write_json(&path, &container.file) {
            self.log(&failure.text);
        }
    }

    /// Ends what execs of an earlier shim have started: nobody hears of them any more, and nobody ends them when their
    /// time is over.
    pub(super) fn end_execs(&mut self, id: &str, runtime: &Runtime) {
        let Some(container) = self.containers.get(id) else {
            return;
        };
        let left = &container.file.left;
        let groups = runtime.groups();
        let theirs = groups
            .into_iter()
            .filter(|name| name.starts_with(GROUP) && !left.contains(name));
        for name in theirs.collect::<Vec<_>>() {
            let root = self.root.path().to_owned();
            let job = Job::start([], || end_group(Root::new(root), id, &name));
            self.begin(job, Task::EndOldExec(id.to_owned()));
        }
    }

    fn forget_exec(&mut self, number: u64) -> Option<Exec> {
        self.reactor.cancel(&Timer::Exec(number));
        self.deafen(number);
        self.forget_caller(number);
        self.execs.remove(&number)
    }

    /// Its time is over.
    pub(super) fn exec_is_late(&mut self, number: u64) {
        if let Some(exec) = self.execs.get_mut(&number) {
            let text = "the time of the command is over";
            let late = Failure::new(Code::DeadlineExceeded, text);
            exec.killed.get_or_insert(late);
            self.kill_exec(number);
        }
    }

    /// Nobody hears any more of those that a connection began.
    pub(super) fn abandon_execs(&mut self, connection: u64) {
        let theirs = self
            .execs
            .iter_mut()
            .filter(|(_, exec)| exec.call.connection == connection);
        let mut numbers = Vec::new();
        for (number, exec) in theirs {
            let gone = Failure::new(Code::Cancelled, "the caller is gone");
            exec.killed.get_or_insert(gone);
            numbers.push(*number);
        }
        for number in numbers {
            self.kill_exec(number);
        }
    }

    /// Kills everything that an exec has started, or its job, which then comes back here.
    fn kill_exec(&mut self, number: u64) {
        let creates = |task: &Task| matches!(task, Task::Exec(of) if *of == number);
        if let Some((job, _)) = self.jobs.values().find(|(_, task)| creates(task)) {
            job.kill();
            return;
        }
        let Some(exec) = self.forget_exec(number) else {
            return;
        };
        if let Some((_, pidfd)) = &exec.process
            && exec.ended.is_none()
        {
            let _ = pidfd::send_signal(pidfd.as_fd(), libc::SIGKILL);
        }
        let root = self.root.path().to_owned();
        let (id, name) = (exec.container.clone(), exec.group.clone());
        let job = Job::start([], || end_group(Root::new(root), &id, &name));
        let killed = exec.killed.clone();
        let failure = killed.unwrap_or_else(|| Failure::new(Code::Cancelled, "killed"));
        self.begin(job, Task::EndExec(exec.call, failure));
    }
}

/// Kills what is in a group, and removes it.
fn end_group(root: Root, id: &str, name: &str) -> Result<Answer> {
    if let Some(group) = Runtime::open(&root, id)?.group(name) {
        group.kill()?;
        group.remove()?;
    }
    Ok(Answer::default())
}

/// A pipe: the end that is read, which does not block, and the other.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).call(|| "pipe2(O_CLOEXEC)")?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).call(|| "fcntl(F_SETFL)")?;
    Ok((reader, writer))
}

/// What the job does.
struct Work {
    root: std::path::PathBuf,
    id: String,
    group: String,
    process: Process,
    /// Input, output, errors; none for what is empty, or dropped.
    streams: [Option<OwnedFd>; 3],
}

impl Work {
    fn run(self) -> Result<Answer> {
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
            .call(|| "open(\"/dev/null\")")?;
        let [stdin, stdout, stderr] = self.streams.each_ref();
        dup2_stdin(stdin.as_ref().unwrap_or(&null)).call(|| "dup2(0)")?;
        dup2_stdout(stdout.as_ref().unwrap_or(&null)).call(|| "dup2(1)")?;
        dup2_stderr(stderr.as_ref().unwrap_or(&null)).call(|| "dup2(2)")?;
        let container = Runtime::open(&Root::new(self.root), &self.id)?;
        let spec = container.spec()?;
        let group = container.group(&self.group);
        if let Some(group) = &group {
            group.make()?;
        }
        let options = ExecOptions {
            terminal: Terminal::Caller,
            pid_file: None,
            pidfd_socket: None,
            preserved_fds: 0,
            cgroups: group
                .iter()
                .map(|group| group.option().to_owned())
                .collect(),
            ignore_paused: false,
        };
        let executed = container.exec(&spec, &self.process, &options)?;
        let pid = executed.child.pid.as_raw().to_ne_bytes();
        let fds = std::iter::once(executed.child.pidfd).chain(executed.master);
        Ok((pid.to_vec(), fds.collect()))
    }
}
