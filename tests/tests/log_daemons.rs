//! The log at journald and syslog, as crun has it: their sockets are the test's own, in a mount namespace of the call's.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use ocirun_tests::{Bundle, Container, Finished, Kind, Need, TIME_LIMIT, runtime, suite};
use serde_json::Value;

const WORDS: &str = "container does not exist";
/// Shows the directory `$0` where journald's socket is, and goes on as the call.
const JOURNAL: &str = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal \
    && mount --bind \"$0\" /run/systemd/journal && exec \"$@\"";
const SYSLOG: &str = "mount --bind \"$0\" /dev && exec \"$@\"";

/// A socket `name` in a directory of its own, and a container that is not there.
struct Log {
    socket: UnixDatagram,
    container: Container,
    script: &'static str,
}

impl Log {
    fn new(name: &str, script: &'static str) -> Self {
        let container = Bundle::new().container();
        fs::create_dir(container.file("log")).unwrap();
        let socket = UnixDatagram::bind(container.file("log").join(name)).unwrap();
        socket.set_read_timeout(Some(TIME_LIMIT)).unwrap();
        Self {
            socket,
            container,
            script,
        }
    }

    fn journal() -> Self {
        Self::new("socket", JOURNAL)
    }

    fn syslog() -> Self {
        Self::new("log", SYSLOG)
    }

    /// `state` with these flags before it.
    fn state(&self, flags: &[&str]) -> Finished {
        let call = self.container.runtime().args(flags).arg("state");
        let words = ["unshare", "-m", "sh", "-c", self.script];
        call.arg(&self.container.id)
            .words_behind(&words, &self.container.file("log"))
            .finish()
    }

    fn receive(&self) -> String {
        let mut datagram = vec![0; 64 << 10];
        let length = self.socket.recv(&mut datagram).unwrap();
        String::from_utf8(datagram[..length].to_vec()).unwrap()
    }

    fn has_nothing_more(&self) {
        self.socket.set_nonblocking(true).unwrap();
        assert!(self.socket.recv(&mut [0]).is_err());
    }
}

fn field<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    let line = |line: &'a str| line.strip_prefix(name)?.strip_prefix('=');
    entry.lines().find_map(line)
}

fn an_error_in_the_journal() {
    let log = Log::journal();
    let run = log.state(&["--log", "journald:me"]);
    let entry = log.receive();
    assert_eq!(field(&entry, "PRIORITY"), Some("3"), "{entry}");
    let message = field(&entry, "MESSAGE").unwrap();
    if runtime().kind == Kind::Ocirun {
        assert_eq!(message, WORDS);
        assert_eq!(field(&entry, "ID"), Some(log.container.id.as_str()));
        assert_eq!(field(&entry, "SYSLOG_IDENTIFIER"), Some("me"), "{entry}");
    }
    assert_eq!(run.code(), 1);
    assert_eq!(run.stderr().trim_end(), message);
    log.has_nothing_more();
}

fn json_in_the_journal() {
    let log = Log::journal();
    let run = log.state(&["--log=journald:me", "--log-format=json"]);
    let entry = log.receive();
    let message: Value = serde_json::from_str(field(&entry, "MESSAGE").unwrap()).unwrap();
    assert_eq!(message["level"], "error", "{entry}");
    assert_eq!(run.stderr().trim_end(), message["msg"]);
}

fn lines_of_debugging() {
    let log = Log::journal();
    let _refused = log.state(&["--debug", "--log", "journald:"]);
    let entry = log.receive();
    assert_eq!(field(&entry, "PRIORITY"), Some("7"), "{entry}");
    assert_eq!(field(&entry, "SYSLOG_IDENTIFIER"), Some("ocirun"));
    assert_eq!(field(&log.receive(), "PRIORITY"), Some("3"));
}

fn an_error_at_syslog() {
    let log = Log::syslog();
    let run = log.state(&["--log", "syslog:me"]);
    let line = log.receive();
    assert!(line.starts_with("<11>"), "{line}");
    let (_, message) = line.split_once("me: ").unwrap();
    assert_eq!(run.stderr().trim_end(), message);
    log.has_nothing_more();
}

/// crun 1.8 gives the name `(null)` to what is about no container that it knows.
fn at_syslog_the_container_is_who_speaks() {
    let log = Log::syslog();
    let _refused = log.state(&["--log", "syslog:"]);
    let line = log.receive();
    assert!(line.contains(&format!("{}: ", log.container.id)), "{line}");
}

fn a_daemon_that_is_not_there() {
    let container = Bundle::new().container();
    let refused = |written: &str, path: &str| {
        let words = [
            "unshare",
            "-m",
            "sh",
            "-c",
            "mount --bind \"$0\" /dev && mount -t tmpfs none /run && exec \"$@\"",
        ];
        let call = container.runtime().args(["--log", written, "list"]);
        let run = call
            .words_behind(&words, &container.bundle.inside("/etc"))
            .finish();
        run.fails(
            1,
            &format!("log: connect(\"{path}\"): no such file or directory (ENOENT)"),
        );
    };
    fs::create_dir_all(container.bundle.inside("/etc")).unwrap();
    refused("journald:me", "/run/systemd/journal/socket");
    refused("syslog:me", "/dev/log");
}

/// A log must not hold a container for ever.
fn a_daemon_that_does_not_read() {
    let log = Log::journal();
    let sender = UnixDatagram::unbound().unwrap();
    sender
        .connect(log.container.file("log").join("socket"))
        .unwrap();
    sender
        .set_write_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    while sender.send(b"MESSAGE=x\n").is_ok() {}
    log.state(&["--log", "journald:me"]).fails(1, WORDS);
}

fn files_have_a_name_too() {
    let container = Bundle::new().container();
    let logged = |written: String, file: &Path| {
        let call = container.runtime().arg("--log").arg(&written);
        let run = call.args(["state", &container.id]).finish();
        assert_eq!(run.code(), 1);
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{error}: {run}"));
        assert!(!text.is_empty(), "{run}");
    };
    let path = |name: &str| container.file(name).to_str().unwrap().to_owned();
    logged(format!("file:{}", path("one")), Path::new(&path("one")));
    if runtime().kind != Kind::Other {
        logged(path("a:b"), Path::new(&path("a:b")));
    }
}

suite! {
    &[Need::Root, Need::NotRunc("knows files alone")] => [
        an_error_in_the_journal,
        json_in_the_journal,
        an_error_at_syslog,
    ],
    &[Need::Root, Need::Ocirun] => [
        at_syslog_the_container_is_who_speaks,
        lines_of_debugging,
        a_daemon_that_is_not_there,
        a_daemon_that_does_not_read,
    ],
    &[Need::NotRunc("knows files alone")] => [files_have_a_name_too],
}
