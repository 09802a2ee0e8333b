//! What the two sides of the test machine say to each other: the job, which the host leaves on the machine's second disk,
//! and the messages among the output of the tests, which the guest sends through a virtio port.

use serde::{Deserialize, Serialize};

/// The name of the virtio port.
pub const PORT: &str = "ocirun.machine";
/// Where the guest finds the second disk: the job, the guest's own program, the tests and the programs under test.
pub const SHARE: &str = "/machine";
/// The ordinary user of the machine, who has sub-ids and, where systemd is PID 1, a user manager.
pub const USER: &str = "tester";
/// Its user and group id.
pub const USER_ID: u32 = 1000;
/// The exit code of a test file that ran into its time limit, as timeout(1) has it.
pub const TIMED_OUT: i32 = 124;

/// In front of a message, where a line of output would begin: the record separator, which no test prints.
const MARK: char = '\u{1e}';

/// Who is PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manager {
    /// systemd, with D-Bus.
    Systemd,
    /// The guest's own program, which mounts what is needed and reaps.
    Plain,
}

/// Whose processes the tests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Caller {
    /// User 0 with all capabilities.
    Root,
    /// [`USER`], in a cgroup delegated to it.
    User,
}

/// All that the guest is to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// Who shall be PID 1.
    pub manager: Manager,
    /// Who runs the tests.
    pub caller: Caller,
    /// The environment of the tests, besides what their user has.
    pub environment: Vec<(String, String)>,
    /// One after the other.
    pub tasks: Vec<Task>,
    /// Seconds that one task may take.
    pub limit: u64,
}

/// One command of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// What it is called in the report.
    pub name: String,
    /// Program and arguments, as seen in the machine.
    pub command: Vec<String>,
}

/// What the guest tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The kernel runs, its disks are there.
    Booted,
    /// A task begins.
    Started(String),
    /// A task ended with this exit code; 128 and the signal's number if one ended it.
    Ended(String, i32),
    /// Nothing is left to do.
    Finished,
    /// The guest itself could not do its part.
    Broken(String),
}

impl Message {
    /// The line to send.
    ///
    /// # Panics
    /// Never: strings and numbers are always JSON.
    #[must_use]
    pub fn to_line(&self) -> String {
        let json = serde_json::to_string(self).expect("JSON");
        format!("{MARK}{json}\n")
    }

    /// Splits a line into output and the message that follows it, if one does: output need not end with a line end.
    #[must_use]
    pub fn split(line: &str) -> (&str, Option<Self>) {
        let found = line
            .split_once(MARK)
            .and_then(|(output, json)| Some((output, serde_json::from_str(json.trim_end()).ok()?)));
        match found {
            Some((output, message)) => (output, Some(message)),
            None => (line, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[test]
    fn a_message_is_found_behind_output() {
        let message = Message::Ended("lifecycle".to_owned(), 101);
        let line = format!("no line end{}", message.to_line());
        assert_eq!(Message::split(&line), ("no line end", Some(message)));
        assert_eq!(Message::split("test x ... ok\n"), ("test x ... ok\n", None));
        assert_eq!(
            Message::split("\u{1e}not ours\n"),
            ("\u{1e}not ours\n", None)
        );
    }
}
