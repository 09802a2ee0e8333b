//! The daemons that keep logs: journald by its native protocol, syslog by RFC 3164.
//!
//! Each line is a datagram to a socket with a well-known path. See systemd.io "Native Journal Protocol", syslog(3).

use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::Level;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Journal,
    Syslog,
}

/// Longest message, which any of them takes.
const LONGEST: usize = 8 << 10;
/// How long one that does not read its socket is waited for: a container must not be held up by a log.
const PATIENCE: Duration = Duration::from_secs(5);
/// The facility of syslog(3) for what is no daemon: LOG_USER.
const FACILITY: u8 = 1 << 3;

impl Protocol {
    /// The socket's path.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Journal => "/run/systemd/journal/socket",
            Self::Syslog => "/dev/log",
        }
    }
}

/// A connection to one of them.
#[derive(Debug)]
pub(super) struct Daemon {
    socket: UnixDatagram,
    protocol: Protocol,
    /// Whose lines they are.
    identifier: String,
    /// The container that they are of, if they are of one.
    container: Option<String>,
}

impl Daemon {
    pub(super) fn connect(
        protocol: Protocol,
        identifier: &str,
        container: Option<&str>,
    ) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(protocol.path())?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            protocol,
            identifier: identifier.to_owned(),
            container: container.map(str::to_owned),
        })
    }

    /// Sends one message.
    pub(super) fn send(&self, level: Level, message: &str) -> io::Result<()> {
        let end = message.floor_char_boundary(LONGEST);
        let message = message.get(..end).unwrap_or(message);
        let datagram = match self.protocol {
            Protocol::Journal => self.fields(level, message),
            Protocol::Syslog => {
                let priority = FACILITY | severity(level);
                // Without a time: that of the arrival is as good, and in the zone of who reads it.
                format!("<{priority}>{}: {message}", self.identifier).into_bytes()
            }
        };
        self.socket.send(&datagram).map(drop)
    }

    /// The fields of an entry of the journal, named as crun names them.
    fn fields(&self, level: Level, message: &str) -> Vec<u8> {
        let mut entry = Vec::new();
        let priority = severity(level).to_string();
        let fields = [
            ("PRIORITY", Some(priority.as_str())),
            ("SYSLOG_IDENTIFIER", Some(&self.identifier)),
            ("MESSAGE", Some(message)),
            ("ID", self.container.as_deref()),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                append(&mut entry, name, value);
            }
        }
        entry
    }
}

/// A value with line ends has its length before it.
fn append(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend(name.bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value.bytes());
    entry.push(b'\n');
}

/// The number that syslog(3) has for it.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warning => 4,
        Level::Debug => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(protocol: Protocol, level: Level, message: &str) -> Vec<u8> {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let daemon = Daemon {
            socket: ours,
            protocol,
            identifier: "me".to_owned(),
            container: Some("web".to_owned()),
        };
        daemon.send(level, message).unwrap();
        let mut datagram = vec![0; 64 << 10];
        let length = theirs.recv(&mut datagram).unwrap();
        datagram.truncate(length);
        datagram
    }

    #[test]
    fn entries_of_the_journal() {
        let entry = received(Protocol::Journal, Level::Error, "a = b");
        let expected = "PRIORITY=3\nSYSLOG_IDENTIFIER=me\nMESSAGE=a = b\nID=web\n";
        assert_eq!(String::from_utf8(entry).unwrap(), expected);
        let entry = received(Protocol::Journal, Level::Debug, "a\nb");
        let expected =
            b"PRIORITY=7\nSYSLOG_IDENTIFIER=me\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\nID=web\n";
        assert_eq!(entry, expected);
    }

    #[test]
    fn lines_of_syslog() {
        let line = received(Protocol::Syslog, Level::Warning, "größe");
        assert_eq!(String::from_utf8(line).unwrap(), "<12>me: größe");
    }

    #[test]
    fn long_messages_are_cut_between_letters() {
        let line = received(Protocol::Syslog, Level::Error, &"ö".repeat(LONGEST));
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line.len(), "<11>me: ".len() + LONGEST);
    }
}
