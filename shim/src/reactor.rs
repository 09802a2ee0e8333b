//! What the loop waits for: descriptors, by epoll(7), and times.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::connection::CallId;
use crate::failure::{Call, Result};

/// Names a descriptor that is waited for. Never used twice.
pub(crate) type Token = u64;

/// Whose descriptor has become ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Signals of this process.
    Signals,
    /// Somebody connects.
    Listener,
    /// A connection, by number.
    Connection(u64),
    /// A container's first process, which is not a child of this one, has ended.
    Adopted(String),
    /// A keeper speaks.
    Keeper(String),
    /// Output of an exec, by number: 0 is standard output.
    ExecOutput(u64, usize),
    /// Who has the streams of an exec, by number, is gone.
    ExecCaller(u64),
}

/// Descriptors that have become ready, and for what.
pub(crate) type Ready = Vec<(Source, EpollFlags)>;

/// What the time has come for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A caller gives up.
    Call(CallId),
    /// A container that was asked to end is killed.
    Stop(String),
    /// The end of an adopted container is looked at again.
    Adopted(String),
    /// An end is told though the log is not written.
    Announce(String),
    /// An exec has had its time.
    Exec(u64),
    /// Connections are taken again.
    Accept,
}

/// Descriptors and times.
#[derive(Debug)]
pub(crate) struct Reactor {
    epoll: Epoll,
    sources: HashMap<Token, Source>,
    timers: BTreeMap<(Instant, u64), Timer>,
    last: u64,
}

impl Reactor {
    pub(crate) fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).call(|| "epoll_create1()")?;
        Ok(Self {
            epoll,
            sources: HashMap::new(),
            timers: BTreeMap::new(),
            last: 0,
        })
    }

    /// Waits for `flags` of `fd` until [`Reactor::forget`], which must come before `fd` is closed.
    pub(crate) fn watch(&mut self, fd: impl AsFd, flags: EpollFlags, of: Source) -> Result<Token> {
        self.last += 1;
        let event = EpollEvent::new(flags, self.last);
        self.epoll
            .add(fd, event)
            .call(|| "epoll_ctl(EPOLL_CTL_ADD)")?;
        self.sources.insert(self.last, of);
        Ok(self.last)
    }

    /// Waits for other `flags`.
    pub(crate) fn change(&self, fd: impl AsFd, flags: EpollFlags, token: Token) {
        let mut event = EpollEvent::new(flags, token);
        let _ = self.epoll.modify(fd, &mut event);
    }

    /// Waits no more.
    pub(crate) fn forget(&mut self, fd: impl AsFd, token: Token) {
        let _ = self.epoll.delete(fd);
        self.sources.remove(&token);
    }

    /// Tells of `timer` after `delay`.
    pub(crate) fn after(&mut self, delay: Duration, timer: Timer) {
        self.last += 1;
        let now = Instant::now();
        // Longer than any machine runs is never.
        let at = now
            .checked_add(delay)
            .unwrap_or(now + Duration::from_secs(1 << 32));
        self.timers.insert((at, self.last), timer);
    }

    /// Drops timers.
    pub(crate) fn cancel(&mut self, timer: &Timer) {
        self.timers.retain(|_, other| other != timer);
    }

    /// Waits until something is ready or a time has come.
    pub(crate) fn wait(&mut self) -> Result<(Ready, Vec<Timer>)> {
        let mut events = [EpollEvent::empty(); 32];
        let count = match self.epoll.wait(&mut events, self.timeout()) {
            Err(Errno::EINTR) => 0,
            count => count.call(|| "epoll_wait()")?,
        };
        let ready = events[..count].iter().filter_map(|event| {
            let source = self.sources.get(&event.data())?;
            Some((source.clone(), event.events()))
        });
        let ready = ready.collect();
        let later = self.timers.split_off(&(Instant::now(), u64::MAX));
        let due = std::mem::replace(&mut self.timers, later);
        Ok((ready, due.into_values().collect()))
    }

    fn timeout(&self) -> EpollTimeout {
        let Some(((at, _), _)) = self.timers.first_key_value() else {
            return EpollTimeout::NONE;
        };
        // Rounded up, or the last millisecond would be waited for in a circle.
        let left = at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
    }
}
