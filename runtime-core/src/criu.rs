//! CRIU, the program that writes processes to files and makes them again, driven by its protocol.
//!
//! `criu swrk FD` serves one request of the peer at the socket FD: a message of `rpc.proto`, and then, until the answer
//! comes, notifications, each of which waits for ours. Restored processes are CRIU's siblings, and so children of this
//! process. See criu(8) and criu.org "RPC".

use std::fs::File;
use std::io::{IoSliceMut, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, send};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::error::{Call, Error, ErrorKind, Result};
use crate::kernel::fd::owned_from_message;

pub(crate) mod options;
mod spawn;
pub(crate) mod wire;

use self::options::Directories;
pub(crate) use self::spawn::{Inside, Start};
use self::wire::{Message, Value, fields};

/// The oldest version that does all that is asked of it: external PID namespaces, and word of a page server.
const OLDEST: u64 = 3_15_00;
/// The oldest that gives processes other labels than they had.
const OLDEST_FOR_LABELS: u64 = 3_16_00;
/// Longest answer: CRIU's own limit is less.
const LONGEST: usize = 64 << 10;
/// How much of the end of a log is searched for errors.
const LOG_END: u64 = 64 << 10;
/// Most errors of a log that an error quotes.
const MOST_QUOTED: usize = 3;

/// What CRIU is asked to do, as it numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    FeatureCheck = 9,
    Version = 10,
}

/// The kind of an answer that is none yet.
const NOTIFY: u64 = 6;

/// The numbers of fields in `criu_req` and `criu_resp` (rpc.proto), under the names they have there.
mod field {
    pub(super) const TYPE: u32 = 1;
    pub(super) const OPTS: u32 = 2;
    pub(super) const NOTIFY_SUCCESS: u32 = 3;
    pub(super) const REQ_FEATURES: u32 = 5;

    pub(super) const SUCCESS: u32 = 2;
    pub(super) const RESTORE: u32 = 4;
    pub(super) const NOTIFY: u32 = 5;
    pub(super) const CR_ERRNO: u32 = 7;
    pub(super) const RESP_FEATURES: u32 = 8;
    pub(super) const CR_ERRMSG: u32 = 9;
    pub(super) const VERSION: u32 = 10;
}

/// What CRIU tells on its way.
#[derive(Debug, Default)]
pub(crate) struct Notice {
    /// Which point it has come to.
    pub(crate) point: String,
    /// The first restored process, where there is one.
    pub(crate) pid: i32,
    /// Master of a terminal that only the container had.
    pub(crate) master: Option<OwnedFd>,
}

/// A capability of CRIU and the kernel, by the number of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    MemoryTracking = 1,
    LazyPages = 2,
}

/// A CRIU that waits for its request.
#[derive(Debug)]
pub(crate) struct Criu {
    socket: OwnedFd,
    /// Those that it opened itself, where it has mounts of its own.
    directories: Directories,
    pid: Pid,
    has_ended: bool,
}

impl Criu {
    /// Starts one. The calling process must have one thread.
    ///
    /// # Errors
    /// `Unsupported` where it is not installed.
    pub(crate) fn start(start: &Start<'_>) -> Result<Self> {
        let (pid, socket, directories) = spawn::start(start)?;
        Ok(Self {
            socket,
            directories,
            pid,
            has_ended: false,
        })
    }

    pub(crate) fn directories(&self) -> &Directories {
        &self.directories
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Has `request` done with `opts`, and gives the pid of the first restored process. `heard` answers what CRIU tells
    /// on the way; an error of it ends the work.
    ///
    /// # Errors
    /// CRIU's own, without its log, and those of `heard`.
    pub(crate) fn carry_out(
        mut self,
        request: Request,
        opts: &Message,
        heard: &mut dyn FnMut(Notice) -> Result<()>,
    ) -> Result<i32> {
        let mut message = Message::default();
        message.number(field::TYPE, request as u64);
        message.message(field::OPTS, opts);
        self.send(&message)?;
        let mut refused = None;
        let pid = loop {
            let answer = match (self.receive(), refused.take()) {
                (Ok(answer), None) => answer,
                (_, Some(error)) => return Err(error),
                (Err(error), None) => return Err(error),
            };
            if answer.kind != NOTIFY || !answer.success {
                break answer.restored(request)?;
            }
            let result = heard(answer.notice);
            let mut message = Message::default();
            message.number(field::TYPE, NOTIFY);
            message.bool(field::NOTIFY_SUCCESS, result.is_ok());
            refused = result.err();
            self.send(&message)?;
        };
        // After one of several dumps it waits for the next.
        self.end();
        Ok(pid)
    }

    /// Asks for something that has no options, and gives the message in the field `wanted` of the answer.
    fn ask(mut self, request: Request, features: Option<Message>, wanted: u32) -> Result<Vec<u8>> {
        let mut message = Message::default();
        message.number(field::TYPE, request as u64);
        if let Some(features) = features {
            message.message(field::REQ_FEATURES, &features);
        }
        self.send(&message)?;
        let (bytes, _) = self.read()?;
        self.end();
        let found = fields(&bytes).find(|(number, _)| *number == wanted);
        let Some((_, value)) = found else {
            Answer::parse(&bytes, None).restored(request)?;
            return Err(Error::unsupported(format!(
                "criu: does not answer {request:?}"
            )));
        };
        Ok(value.bytes().to_vec())
    }

    fn send(&self, message: &Message) -> Result<()> {
        let bytes = message.bytes();
        loop {
            match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Err(Errno::EINTR) => {}
                sent => return sent.map(drop).call(|| "send(criu)"),
            }
        }
    }

    fn receive(&self) -> Result<Answer> {
        let (bytes, master) = self.read()?;
        Ok(Answer::parse(&bytes, master))
    }

    fn read(&self) -> Result<(Vec<u8>, Option<OwnedFd>)> {
        let mut bytes = vec![0; LONGEST];
        let mut space = nix::cmsg_space!([RawFd; 1]);
        let mut master = None;
        let length = {
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            let message = loop {
                let flags = MsgFlags::MSG_CMSG_CLOEXEC;
                match recvmsg::<()>(
                    self.socket.as_raw_fd(),
                    &mut buffers,
                    Some(&mut space),
                    flags,
                ) {
                    Err(Errno::EINTR) => {}
                    received => break received.call(|| "recvmsg(criu)")?,
                }
            };
            for control in message.cmsgs().call(|| "recvmsg(criu)")? {
                if let ControlMessageOwned::ScmRights(fds) = control {
                    master = fds.into_iter().map(owned_from_message).next();
                }
            }
            message.bytes
        };
        if length == 0 {
            return Err(Error::new(ErrorKind::Os(Errno::ECHILD), "criu ended early"));
        }
        bytes.truncate(length);
        Ok((bytes, master))
    }

    /// Waits for its end, which comes by itself when nobody is at the other end of the socket.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.has_ended, true) {
            let _ = nix::sys::socket::shutdown(
                self.socket.as_raw_fd(),
                nix::sys::socket::Shutdown::Both,
            );
            while waitpid(self.pid, None) == Err(Errno::EINTR) {}
        }
    }
}

impl Drop for Criu {
    /// One that is at work gives up, and undoes what it has done so far.
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Debug, Default)]
struct Answer {
    kind: u64,
    success: bool,
    pid: i32,
    notice: Notice,
    errno: i32,
    text: String,
}

impl Answer {
    fn parse(bytes: &[u8], master: Option<OwnedFd>) -> Self {
        let mut answer = Self::default();
        for (number, value) in fields(bytes) {
            match number {
                field::TYPE => answer.kind = value.number(),
                field::SUCCESS => answer.success = value.number() == 1,
                field::RESTORE => answer.pid = field_of(value.bytes(), 1).int(),
                field::NOTIFY => {
                    answer.notice.point = field_of(value.bytes(), 1).text();
                    answer.notice.pid = field_of(value.bytes(), 2).int();
                }
                field::CR_ERRNO => answer.errno = value.int(),
                field::CR_ERRMSG => value.text().trim_end().clone_into(&mut answer.text),
                _ => {}
            }
        }
        answer.notice.master = master;
        answer
    }

    fn restored(self, request: Request) -> Result<i32> {
        if self.success && self.kind == request as u64 {
            return Ok(self.pid);
        }
        let errno = Errno::from_raw(self.errno.abs());
        let mut text = format!("criu failed: type {request:?} errno {}", self.errno);
        if !self.text.is_empty() {
            text = format!("{text}: {}", self.text);
        }
        let kind = match errno {
            Errno::UnknownErrno => Errno::EIO,
            errno => errno,
        };
        Err(Error::new(
            ErrorKind::Os(kind),
            crate::error::on_one_line(&text),
        ))
    }
}

/// The field `wanted` of a message, or that of nothing.
fn field_of(message: &[u8], wanted: u32) -> Value<'_> {
    let found = fields(message).find(|(field, _)| *field == wanted);
    found.map_or(Value::Bytes(&[]), |(_, value)| value)
}

/// Refuses a CRIU that is too old, or not there.
pub(crate) fn check_version(labels: bool) -> Result<()> {
    let version = Criu::start(&Start::default())?.ask(Request::Version, None, field::VERSION)?;
    // Major, minor and sublevel, with the name of a commit between them.
    let part = |wanted: u32| field_of(&version, wanted).number();
    let found = part(1) * 1_00_00 + part(2) * 100 + part(4);
    let oldest = if labels { OLDEST_FOR_LABELS } else { OLDEST };
    if found >= oldest {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "criu {}.{}: {}.{} or newer is needed",
        part(1),
        part(2),
        oldest / 1_00_00,
        oldest / 100 % 100
    )))
}

/// Refuses a CRIU, or a kernel, that has not got `feature`.
pub(crate) fn check_feature(feature: Feature) -> Result<()> {
    let mut features = Message::default();
    features.bool(feature as u32, true);
    let found = Criu::start(&Start::default())?.ask(
        Request::FeatureCheck,
        Some(features),
        field::RESP_FEATURES,
    )?;
    if field_of(&found, feature as u32).number() == 1 {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "CRIU is missing features: [{feature:?}] (of this kernel: see `criu check --all`)"
    )))
}

/// Puts the errors of CRIU's log behind `error`.
pub(crate) fn with_log(error: Error, log: &Path) -> Error {
    let mut errors = last_errors(log).unwrap_or_default();
    let quoted = errors.split_off(errors.len().saturating_sub(MOST_QUOTED));
    let mut error = error;
    for line in quoted {
        // Newer ones tell the first of them in their answer.
        if !error.to_string().contains(&line) {
            error = error.also(&crate::error::on_one_line(&line));
        }
    }
    error.also(&format!("log file: {}", log.display()))
}

fn last_errors(log: &Path) -> std::io::Result<Vec<String>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))?;
    let mut bytes = Vec::new();
    file.take(LOG_END).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // `(00.544537) Error (criu/files-reg.c:1790): …`: without the time.
    let errors = text.lines().filter_map(|line| {
        let at = line.find("Error (")?;
        let line = line.get(at..)?.trim_end_matches("\\n");
        Some(line.to_owned())
    });
    Ok(errors.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let mut inner = Message::default();
        inner.number(1, 4711);
        let mut restored = Message::default();
        restored.number(1, 2);
        restored.bool(2, true);
        restored.message(4, &inner);
        let answer = Answer::parse(restored.bytes(), None);
        assert_eq!(answer.restored(Request::Restore).unwrap(), 4711);
        let wrong = Answer::parse(restored.bytes(), None);
        assert!(wrong.restored(Request::Dump).is_err());

        let mut failed = Message::default();
        failed.number(1, 1);
        failed.bool(2, false);
        failed.number(7, 52);
        failed.text(9, "bad\nnews");
        let error = Answer::parse(failed.bytes(), None)
            .restored(Request::Dump)
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("type Dump errno 52: bad"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }

    #[test]
    fn the_log_tells_why() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("dump.log");
        let error = || Error::argument("x");
        let text = with_log(error(), &log).to_string();
        assert_eq!(text, format!("x; log file: {}", log.display()));
        let lines = "(1) a\n(2) Error (a:1): one\n(3) b\n(4) Error (b:2): two\n(5) pie: 1: Error (c:3): three\n(6) Error (d:4): four\n";
        std::fs::write(&log, lines).unwrap();
        let text = with_log(error(), &log).to_string();
        assert!(
            text.starts_with(
                "x; Error (b:2): two; Error (c:3): three; Error (d:4): four; log file: "
            ),
            "{text}"
        );
    }
}
