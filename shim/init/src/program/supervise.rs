//! The init itself: start the child, then wait for signals and ends until it is time to exit.

use super::command::{self, Command, Isolation, Options, Target};
use super::exec::{self, Inherited};
use super::personality::Personality;
use super::print::Line;
use super::reap::{self, Left, Reaper};
use super::sys::{self, Action, Errno, Fd, Fork, Prctl, Received, Scope, Signals, Strings};
use super::{lockdown, signals, text};

impl command::Words<'static> for Strings {
    fn word(&self, index: usize) -> &'static [u8] {
        self.get(index)
    }
    fn count(&self) -> usize {
        self.len()
    }
}

/// Reads the command line and does what it says.
pub fn main(arguments: Strings, environment: Strings, mask: Signals) -> ! {
    let personality = Personality::of(arguments.get(0));
    match command::parse(&arguments) {
        Ok(Command::Run(options)) => run(options, arguments, environment, mask),
        Ok(Command::Help) => text::help(personality, Fd::STDOUT),
        Ok(Command::Version) => text::print_version(personality),
        Ok(Command::License) => text::license(),
        Err(why) => {
            text::refuse(personality, why);
            sys::exit(1)
        }
    }
    sys::exit(0)
}

fn run(
    mut options: Options,
    mut arguments: Strings,
    mut environment: Strings,
    mut mask: Signals,
) -> ! {
    let mut at = 0;
    while at < environment.len() {
        if let Some(wanted) = command::launcher_mask(environment.get(at)) {
            mask = Signals(wanted);
            environment.remove(at);
        } else if command::apply_variable(&mut options, environment.get(at)) {
            environment.remove(at);
        } else {
            at += 1;
        }
    }
    prepare(&options);
    // The child's end must be waitable even if whoever started us ignores SIGCHLD.
    let inherited = Inherited {
        mask,
        child_action: sys::set_action(signals::CHLD, Action::DEFAULT),
    };
    let (pid, pidfd) = if options.pause {
        (0, Fd::NONE)
    } else {
        let terminal = exec::terminal(&options);
        match sys::fork() {
            Ok(Fork::Child) => exec::child(
                &options,
                &inherited,
                terminal,
                &mut arguments,
                &mut environment,
            ),
            Ok(Fork::Parent { pid, pidfd }) => {
                say(&options, 2, b"Spawned child process with pid ", pid);
                (pid, pidfd)
            }
            Err(errno) => give_up(b"clone", errno),
        }
    };
    let mut reaper = Reaper::Us;
    if !options.reports_reaping() && reap::kernel_keeps_statuses() {
        reap::leave_to_kernel(&mut reaper);
    }
    let signals = sys::signal_fd(Signals::ALL).unwrap_or_else(|errno| give_up(b"signalfd", errno));
    let (signals, pidfd) = if options.pause {
        let (signals, _) = sys::keep_only(signals, signals);
        (signals, Fd::NONE)
    } else {
        sys::keep_only(signals, pidfd)
    };
    sys::leave_directory();
    lockdown::apply();
    Init {
        options,
        pid,
        pidfd,
        signals,
        reaper,
        phase: Phase::Running,
        ended: None,
    }
    .run()
}

/// What must be set before the child exists.
fn prepare(options: &Options) {
    let parent = sys::parent();
    if options.subreaper && sys::prctl(Prctl::Subreaper).is_ok() {
        say(
            options,
            4,
            b"Registered as child subreaper in process ",
            sys::pid(),
        );
    }
    if options.parent_death != 0 {
        let _ = sys::prctl(Prctl::ParentDeath(options.parent_death));
        if sys::parent() != parent {
            // It died before the kernel knew that we care.
            let _ = sys::kill(sys::pid(), options.parent_death);
        }
    }
    let reaps = sys::pid() == 1 || sys::is_subreaper();
    if !reaps && options.verbosity >= 1 {
        match options.personality {
            Personality::Own | Personality::Tini => {
                let line = Line::new().text(b"[WARN  tini (").number(sys::pid());
                line.text(b")] Not PID 1 and no child subreaper (-s or TINI_SUBREAPER): zombies go to another process.")
                    .send(Fd::STDERR);
            }
            Personality::Pause => {
                sys::write(Fd::STDERR, b"Warning: pause should be the first process\n")
            }
            Personality::DumbInit | Personality::Catatonit => {}
        }
    }
}

/// Without a child or a way to hear signals there is nothing to supervise.
fn give_up(call: &[u8], errno: Errno) -> ! {
    let line = Line::new()
        .text(b"[FATAL tini (")
        .number(sys::pid())
        .text(b")] ")
        .text(call);
    line.text(b": errno ").number(errno.0).send(Fd::STDERR);
    sys::exit(1)
}

/// A message of `level`, in the form of the program in whose place we stand.
fn say(options: &Options, level: i32, words: &[u8], number: i32) {
    if options.verbosity < level {
        return;
    }
    let line = match options.personality {
        Personality::DumbInit => Line::new().text(b"[dumb-init] "),
        _ => {
            let level: &[u8] = match level {
                0 => b"FATAL",
                1 => b"WARN ",
                2 => b"INFO ",
                3 => b"DEBUG",
                _ => b"TRACE",
            };
            Line::new()
                .text(b"[")
                .text(level)
                .text(b" tini (")
                .number(sys::pid())
                .text(b")] ")
        }
    };
    line.text(words).number(number).send(Fd::STDERR);
}

/// Where we stand between start and end.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing but forwarding.
    Running,
    /// A stop signal is held back until a time.
    Draining {
        /// Milliseconds of the monotonic clock.
        until: u64,
        /// What is held back.
        held: Received,
    },
    /// Everybody was told to end; KILL follows at a time, or was sent.
    Stopping {
        /// Milliseconds of the monotonic clock; none after KILL.
        until: Option<u64>,
    },
}

/// How often to look for processes that joined from outside and are nobody's children here: their end wakes nobody.
const LOOK_MS: u64 = 50;

struct Init {
    options: Options,
    /// The child's number, 0 in a pause.
    pid: i32,
    pidfd: Fd,
    signals: Fd,
    reaper: Reaper,
    phase: Phase,
    /// The child's wait status once it has ended.
    ended: Option<i32>,
}

impl Init {
    fn run(mut self) -> ! {
        // What ended before the kernel took over, and orphans that a launcher left us.
        let left = self.reap();
        if self.ended.is_some() {
            // Its signal is still in the queue: it was the quicker one.
            self.heard_of_end(signals::CHLD);
            self.child_is_gone(left);
        }
        loop {
            let watched = if self.ended.is_none() {
                self.pidfd
            } else {
                Fd::NONE
            };
            let ready = sys::poll(self.signals, watched, self.timeout());
            self.due();
            if ready.second && self.reaper == Reaper::Kernel {
                self.child_ended(reap::status_from_kernel(self.pidfd));
            }
            let mut reap = ready.second;
            if ready.first {
                while let Some(signal) = sys::next_signal(self.signals) {
                    if signal.signal == signals::CHLD && signal.code > 0 {
                        self.heard_of_end(signal.signal);
                        reap = true;
                    } else {
                        self.received(signal);
                    }
                }
            }
            let stopping = matches!(self.phase, Phase::Stopping { .. });
            let left = if reap || stopping {
                self.reap()
            } else {
                Left::Some
            };
            if self.ended.is_some() {
                self.child_is_gone(left);
            } else if stopping && self.options.pause && self.nobody_is_left(left) {
                sys::exit(0);
            }
        }
    }

    fn heard_of_end(&self, signal: i32) {
        say(&self.options, 3, b"Received SIGCHLD, signal ", signal);
    }

    fn timeout(&self) -> Option<u64> {
        let now = sys::now_ms();
        match self.phase {
            Phase::Running => None,
            Phase::Draining { until, .. } => Some(until.saturating_sub(now)),
            Phase::Stopping { until } => {
                Some(until.map_or(LOOK_MS, |until| until.saturating_sub(now).min(LOOK_MS)))
            }
        }
    }

    /// Does what a deadline was set for.
    fn due(&mut self) {
        match self.phase {
            Phase::Draining { until, held } if sys::now_ms() >= until => {
                self.phase = Phase::Running;
                self.deliver(held);
            }
            Phase::Stopping { until: Some(until) } if sys::now_ms() >= until => {
                self.phase = Phase::Stopping { until: None };
                self.everybody(signals::KILL);
            }
            _ => {}
        }
    }

    fn reap(&mut self) -> Left {
        let mut ended = None;
        let (options, child) = (self.options, self.pid);
        let left = reap::round(|pid, status| {
            say(&options, 3, b"Reaped child with pid: ", pid);
            if pid == child {
                ended = Some(status);
            } else if options.warn_on_reap {
                say(&options, 1, b"Reaped zombie process with pid=", pid);
            }
        });
        if let Some(status) = ended {
            self.child_ended(status);
        }
        left
    }

    fn child_ended(&mut self, status: i32) {
        self.ended = Some(status);
        let words: &[u8] = if status & 0x7F == 0 {
            b"Main child exited normally with status "
        } else {
            b"Main child exited with signal "
        };
        say(
            &self.options,
            2,
            words,
            if status & 0x7F == 0 {
                status >> 8
            } else {
                status & 0x7F
            },
        );
    }

    /// The child has ended: exit with its code, after everybody else if an orderly stop was asked for.
    fn child_is_gone(&mut self, left: Left) {
        let code = reap::exit_code(self.ended.unwrap_or(0));
        let code = if self.options.expects(code) { 0 } else { code };
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        if self.options.stop_tree_ms.is_some() && !stopping {
            return self.begin_stop(signals::TERM);
        }
        if stopping && !self.nobody_is_left(left) {
            return;
        }
        if self.options.isolation == Isolation::Session {
            // What dumb-init's users count on: the rest of the session is told.
            self.signal_group(signals::TERM);
        }
        sys::exit(code)
    }

    fn received(&mut self, mut signal: Received) {
        use signals::{INT, QUIT, TERM, TSTP, TTIN, TTOU};
        let was = signal.signal;
        let dumb = self.options.personality == Personality::DumbInit;
        let terminal_stop = dumb && [TSTP, TTIN, TTOU].contains(&was);
        let place = usize::try_from(was).unwrap_or(0);
        if let Some(number) = self.options.rewrite.get(place) {
            signal.signal = i32::from(*number);
        }
        if terminal_stop && signal.signal == was && self.options.isolation == Isolation::Session {
            // An orphaned session is immune against these three, so they would stop nobody.
            signal.signal = signals::STOP;
        }
        let stops = [TERM, INT, QUIT].contains(&signal.signal);
        match self.phase {
            _ if signal.signal == 0 => {}
            Phase::Running if stops && self.options.drain_ms > 0 => {
                let until = sys::now_ms() + self.options.drain_ms;
                self.phase = Phase::Draining {
                    until,
                    held: signal,
                };
            }
            Phase::Draining { .. } if stops => {
                self.phase = Phase::Running;
                self.deliver(signal);
            }
            _ => self.deliver(signal),
        }
        if terminal_stop {
            let _ = sys::kill(sys::pid(), signals::STOP);
        }
    }

    fn deliver(&mut self, signal: Received) {
        let stops = [signals::TERM, signals::INT, signals::QUIT].contains(&signal.signal);
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        if stops && !stopping && self.options.stop_tree_ms.is_some() {
            self.begin_stop(signal.signal);
        } else if self.options.pause {
            if [signals::TERM, signals::INT].contains(&signal.signal) && !stopping {
                let line = Line::new()
                    .text(b"Shutting down, got signal: SIG")
                    .text(signals::name(signal.signal));
                line.send(Fd::STDERR);
                sys::exit(0);
            }
        } else {
            self.forward(&signal);
        }
    }

    /// Forwards one signal. What cannot be delivered is reported, and never a reason to end.
    fn forward(&self, signal: &Received) {
        let scope = if self.options.target == Target::Group {
            Scope::Group
        } else {
            Scope::Process
        };
        let mut result = sys::send(self.pidfd, scope, signal);
        // A full queue of pending signals empties as the child takes them; signals that wait in ours are not lost.
        for _ in 0..100 {
            if result != Err(Errno::EAGAIN) {
                break;
            }
            sys::poll(Fd::NONE, Fd::NONE, Some(10));
            result = sys::send(self.pidfd, scope, signal);
        }
        if let (Err(errno), Scope::Group) = (result, scope)
            && errno != Errno::ESRCH
        {
            result = sys::kill(-self.pid, signal.signal);
        }
        match result {
            Ok(()) => say(&self.options, 3, b"Passed signal ", signal.signal),
            Err(errno) => {
                let line = Line::new()
                    .text(b"forwarding signal ")
                    .number(signal.signal)
                    .text(b": errno ");
                say(&self.options, 1, line.as_bytes(), errno.0);
            }
        }
    }

    fn signal_group(&self, signal: i32) {
        say(
            &self.options,
            3,
            b"Forwarded to the session signal ",
            signal,
        );
        let _ = sys::kill(-self.pid, signal);
    }

    fn begin_stop(&mut self, signal: i32) {
        let wait = self.options.stop_tree_ms.unwrap_or(0);
        reap::take_over(&mut self.reaper);
        self.phase = Phase::Stopping {
            until: Some(sys::now_ms() + wait),
        };
        self.everybody(signal);
        // A stopped process acts on nothing but KILL until it goes on.
        self.everybody(signals::CONT);
    }

    /// Signals everybody. `kill(-1)` means the whole machine unless we are PID 1; otherwise it is the child's group.
    fn everybody(&self, signal: i32) {
        if sys::pid() == 1 {
            let _ = sys::kill(-1, signal);
        } else if self.pid > 0 {
            self.signal_group(signal);
        }
    }

    /// Whether a stop is complete: no child, and in our own PID namespace nobody at all.
    fn nobody_is_left(&self, left: Left) -> bool {
        left == Left::Nobody && (sys::pid() != 1 || sys::kill(-1, 0) == Err(Errno::ESRCH))
    }
}
