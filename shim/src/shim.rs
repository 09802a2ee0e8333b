//! The loop: one thread that never waits for anything but [`Reactor::wait`].

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{SockFlag, accept4, getsockopt};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid};
use ocirun_shim::wire::{Event, EventKind};
use prost::Message;
use runtime_core::Root;

use crate::connection::{CallId, Connection};
use crate::container::{Container, Ended};
use crate::disk::now;
use crate::failure::{Failure, Result};
use crate::job::{Answer, Job};
use crate::pod::Pod;
use crate::reactor::{Reactor, Source, Timer, Token};

mod adopt;
mod attach;
mod create;
mod delete;
mod end;
mod exec;
mod keep;
mod memory;
mod service;
mod start;

use exec::Exec;

/// What a job is for, and who hears of its end.
#[derive(Debug)]
pub(crate) enum Task {
    Create(String),
    Start(String),
    /// What an earlier shim began is finished.
    FinishStart(String),
    /// All processes of a container are killed, for it is to stop.
    Stop(String),
    /// Those that outlive the first are.
    KillRest(String),
    Kill(CallId),
    Delete(String),
    Update(CallId),
    Exec(u64),
    /// What an exec started is killed, for the reason that its caller is told.
    EndExec(CallId, Failure),
    /// What an exec of an earlier shim started is, in a container.
    EndOldExec(String),
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    GoesOn,
    /// Once the answers are sent.
    Ends,
}

/// Everything the program knows.
#[derive(Debug)]
pub(crate) struct Shim {
    pod: Pod,
    root: Root,
    reactor: Reactor,
    signals: SignalFd,
    listener: OwnedFd,
    listener_token: Token,
    connections: HashMap<u64, Connection>,
    containers: BTreeMap<String, Container>,
    execs: HashMap<u64, Exec>,
    jobs: HashMap<Pid, (Job, Task)>,
    /// Children that were waited for before anybody knew whose they are.
    strays: HashMap<Pid, WaitStatus>,
    subscribers: Vec<CallId>,
    /// Who waits for all containers to end.
    stopping: Vec<CallId>,
    /// Who waits for the end of this program.
    leaving: Vec<CallId>,
    /// Numbers of connections and execs.
    last: u64,
    /// Of the last event.
    sequence: u64,
    /// Kills for lack of memory in containers that have ended; none where nobody needs to know.
    kills_of_ended: Option<u64>,
    life: Life,
}

impl Shim {
    pub(crate) fn new(pod: Pod, signals: SignalFd, listener: OwnedFd) -> Result<Self> {
        let mut reactor = Reactor::new()?;
        reactor.watch(&signals, EpollFlags::EPOLLIN, Source::Signals)?;
        let listener_token = reactor.watch(&listener, EpollFlags::EPOLLIN, Source::Listener)?;
        let mut shim = Self {
            root: Root::new(pod.directory().runtime()),
            pod,
            reactor,
            signals,
            listener,
            listener_token,
            connections: HashMap::new(),
            containers: BTreeMap::new(),
            execs: HashMap::new(),
            jobs: HashMap::new(),
            strays: HashMap::new(),
            subscribers: Vec::new(),
            stopping: Vec::new(),
            leaving: Vec::new(),
            last: 0,
            sequence: 0,
            kills_of_ended: None,
            life: Life::GoesOn,
        };
        shim.adopt()?;
        Ok(shim)
    }

    /// Serves until the pod is shut down, or the program is asked to end by SIGTERM: the pod then goes on, for the next
    /// shim to adopt.
    pub(crate) fn run(&mut self) -> Result<()> {
        loop {
            let (ready, due) = self.reactor.wait()?;
            for (source, flags) in ready {
                if self.handle(source, flags) == Life::Ends {
                    return Ok(());
                }
            }
            for timer in due {
                self.time_has_come(timer);
            }
            self.flush();
            if self.life == Life::Ends {
                return Ok(());
            }
        }
    }

    fn handle(&mut self, source: Source, flags: EpollFlags) -> Life {
        match source {
            Source::Signals => return self.take_signals(),
            Source::Listener => self.accept(),
            Source::Connection(number) => self.receive(number, flags),
            Source::Adopted(id) => self.adopted_has_ended(&id),
            Source::Keeper(id) => self.hear(&id),
            Source::ExecOutput(number, index) => self.read_exec(number, index),
            Source::ExecCaller(number) => self.exec_caller_is_gone(number),
        }
        Life::GoesOn
    }

    fn time_has_come(&mut self, timer: Timer) {
        match timer {
            Timer::Call(call) => {
                let code = ocirun_shim::wire::Code::DeadlineExceeded;
                let text = "the caller's time is over; what was begun goes on";
                self.answer(call, Err(Failure::new(code, text)));
            }
            Timer::Stop(id) => self.kill_whole(&id),
            Timer::Adopted(id) => self.adopted_has_ended(&id),
            Timer::Announce(id) => self.announce(&id),
            Timer::Exec(number) => self.exec_is_late(number),
            Timer::Accept => self.take_connections(EpollFlags::EPOLLIN),
        }
    }

    fn take_signals(&mut self) -> Life {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
            if number == Signal::SIGTERM as i32 {
                return Life::Ends;
            }
        }
        self.reap();
        Life::GoesOn
    }

    /// Waits for all children that have ended: those of jobs first, for they tell of the others.
    fn reap(&mut self) {
        let mut ended = Vec::new();
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(status) => ended.extend(status.pid().map(|pid| (pid, status))),
            }
        }
        let (jobs, others): (Vec<_>, Vec<_>) = ended
            .into_iter()
            .partition(|(pid, _)| self.jobs.contains_key(pid));
        self.strays.extend(others.iter().copied());
        for (pid, _) in jobs {
            if let Some((job, task)) = self.jobs.remove(&pid) {
                self.task_has_ended(task, job.finish());
            }
        }
        for (pid, status) in others {
            self.child_has_ended(pid, status);
        }
        if self.jobs.is_empty() {
            // Nobody is on the way to ask for them.
            self.strays.clear();
        }
    }

    fn child_has_ended(&mut self, pid: Pid, status: WaitStatus) {
        let Some(ended) = Ended::of(status) else {
            return;
        };
        if self.pod.is_init(pid) {
            self.pod.init_has_ended();
            return;
        }
        let exec = self.execs.iter().find(|(_, exec)| exec.is(pid));
        if let Some(number) = exec.map(|(number, _)| *number) {
            self.strays.remove(&pid);
            self.exec_has_ended(number, ended);
            return;
        }
        let owner = self
            .containers
            .iter()
            .find(|(_, container)| container.file.pid == pid.as_raw() && container.has_process());
        if let Some(id) = owner.map(|(id, _)| id.clone()) {
            self.strays.remove(&pid);
            self.first_has_ended(&id, ended);
        }
    }

    /// How the child `pid` ended, if it was waited for before anybody knew whose it is.
    fn stray(&mut self, pid: Pid) -> Option<Ended> {
        self.strays.remove(&pid).and_then(Ended::of)
    }

    fn task_has_ended(&mut self, task: Task, answer: Result<Answer>) {
        match task {
            Task::Create(id) => self.created(&id, answer),
            Task::Start(id) => self.started(&id, answer),
            Task::FinishStart(id) | Task::EndOldExec(id) => {
                if let Err(failure) = answer {
                    self.log(&format!("container {id:?}: {failure}"));
                }
            }
            Task::Stop(id) => self.killed_whole(&id, answer),
            Task::KillRest(id) => self.rest_is_killed(&id, answer),
            Task::Delete(id) => self.deleted(&id, answer),
            Task::Kill(call) | Task::Update(call) => self.answer(call, answer.map(|_| Vec::new())),
            Task::Exec(number) => self.exec_has_begun(number, answer),
            Task::EndExec(call, reason) => {
                if let Err(failure) = answer {
                    self.log(&format!("exec: {failure}"));
                }
                self.answer(call, Err(reason));
            }
        }
    }

    /// Gives `task` to a process of its own.
    fn begin(&mut self, job: Result<Job>, task: Task) {
        match job {
            Ok(job) => {
                self.jobs.insert(job.pid, (job, task));
            }
            Err(failure) => self.task_has_ended(task, Err(failure)),
        }
    }

    fn accept(&mut self) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = match accept4(self.listener.as_raw_fd(), flags) {
            Ok(fd) => fd,
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) => {
                // Who waits goes on waiting; the others are served meanwhile.
                self.take_connections(EpollFlags::empty());
                self.reactor
                    .after(Duration::from_millis(100), Timer::Accept);
                return;
            }
            Err(_) => return,
        };
        let socket = runtime_core::kernel::fd::owned_from_message(fd);
        let peer = getsockopt(&socket, PeerCredentials);
        if !peer.is_ok_and(|peer| peer.uid() == geteuid().as_raw()) {
            return;
        }
        self.last += 1;
        let source = Source::Connection(self.last);
        match self.reactor.watch(&socket, EpollFlags::EPOLLIN, source) {
            Ok(token) => {
                let connection = Connection::new(socket, token);
                self.connections.insert(self.last, connection);
            }
            Err(failure) => self.log(&failure.text),
        }
    }

    fn take_connections(&self, flags: EpollFlags) {
        self.reactor
            .change(&self.listener, flags, self.listener_token);
    }

    fn receive(&mut self, number: u64, flags: EpollFlags) {
        if !flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            return;
        }
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let Some(requests) = connection.receive() else {
            self.disconnect(number);
            return;
        };
        for (stream, request) in requests {
            let call = CallId {
                connection: number,
                stream,
            };
            self.serve(call, &request);
        }
    }

    fn disconnect(&mut self, number: u64) {
        if let Some(connection) = self.connections.remove(&number) {
            self.reactor.forget(&connection.socket, connection.token);
        }
        self.subscribers.retain(|call| call.connection != number);
        self.abandon_execs(number);
    }

    /// Sends what waits to be sent, and lets streams go on that waited for that.
    fn flush(&mut self) {
        let mut gone = Vec::new();
        for (number, connection) in &mut self.connections {
            let Some(is_blocked) = connection.flush() else {
                gone.push(*number);
                continue;
            };
            if is_blocked != connection.is_blocked {
                connection.is_blocked = is_blocked;
                let flags = if is_blocked {
                    EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT
                } else {
                    EpollFlags::EPOLLIN
                };
                self.reactor
                    .change(&connection.socket, flags, connection.token);
            }
        }
        for number in gone {
            self.disconnect(number);
        }
        self.resume_execs();
    }

    /// Ends a call.
    fn answer(&mut self, call: CallId, answer: Result<Vec<u8>>) {
        self.reactor.cancel(&Timer::Call(call));
        if let Some(connection) = self.connections.get_mut(&call.connection) {
            connection.answer(call.stream, answer);
        }
    }

    fn answer_all(&mut self, calls: Vec<CallId>, answer: &Result<Vec<u8>>) {
        for call in calls {
            self.answer(call, answer.clone());
        }
    }

    /// Tells who listens what happened to a container.
    fn tell(&mut self, kind: EventKind, id: &str) {
        self.sequence += 1;
        let event = Event {
            kind: kind as i32,
            id: id.to_owned(),
            timestamp: now(),
            container: self.containers.get(id).map(|container| container.state(id)),
            sequence: self.sequence,
        };
        let message = event.encode_to_vec();
        for call in &self.subscribers {
            if let Some(connection) = self.connections.get_mut(&call.connection) {
                connection.send(call.stream, message.clone());
            }
        }
    }

    /// A line of `shim.log`.
    fn log(&self, text: &str) {
        crate::log(text);
    }
}

/// Watches a descriptor of a first process that is not a child.
fn watch_adopted(reactor: &mut Reactor, id: &str, pidfd: &OwnedFd) -> Result<Token> {
    let source = Source::Adopted(id.to_owned());
    reactor.watch(pidfd.as_fd(), EpollFlags::EPOLLIN, source)
}
