//! The log: lines of text, or one JSON object a line, as callers of runc read them; in a file, on standard error, or at
//! journald or syslog, as crun has it.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::SystemTime;

use crate::cli::Flags;
use crate::time;

mod daemon;

use self::daemon::{Daemon, Protocol};

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Debug,
    Warning,
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What is known of an error beside its words, for programs: the JSON log has it.
#[derive(Debug, Default)]
pub(crate) struct Cause {
    /// Stable from version to version: see [`runtime_core::ErrorKind::code`].
    pub(crate) code: &'static str,
    /// Name of the errno.
    pub(crate) errno: Option<String>,
    /// JSON pointer of the element of `config.json`.
    pub(crate) pointer: Option<String>,
}

impl Cause {
    /// One that only has a code.
    pub(crate) fn of(code: &'static str) -> Self {
        Self {
            code,
            ..Self::default()
        }
    }
}

/// Where lines go.
#[derive(Debug)]
enum Place {
    StandardError,
    File(File),
    Daemon(Daemon),
}

/// Where lines go, and how they look.
#[derive(Debug)]
pub(crate) struct Log {
    place: Place,
    format: Format,
    debug: bool,
}

/// Of whom the lines of a log are that others write to as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Author<'a> {
    /// What the program was called as.
    pub(crate) program: &'a str,
    /// The container that the command is about.
    pub(crate) container: Option<&'a str>,
}

impl Log {
    /// Standard error, as text: before the command line says otherwise.
    pub(crate) fn standard() -> Self {
        Self {
            place: Place::StandardError,
            format: Format::Text,
            debug: false,
        }
    }

    /// Opens the log that the flags before the command name.
    ///
    /// # Errors
    /// The line to show where it cannot be opened or the format is none.
    pub(crate) fn open(global: &Flags, author: Author<'_>) -> Result<Self, String> {
        let format = match global.value("log-format") {
            None | Some("" | "text") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => return Err(format!("invalid log-format: {other}")),
        };
        Ok(Self {
            place: Place::open(global.value("log").unwrap_or_default(), author)?,
            format,
            debug: global.on("debug"),
        })
    }

    /// The error that ends a command: a line in the log, and the bare words on standard error where that is elsewhere.
    pub(crate) fn fatal(&self, message: &str, cause: &Cause) {
        self.line(Level::Error, message, Some(cause));
        if !matches!(self.place, Place::StandardError) {
            let _ = writeln!(std::io::stderr(), "{message}");
        }
    }

    pub(crate) fn warning(&self, message: &str) {
        self.line(Level::Warning, message, None);
    }

    pub(crate) fn debug(&self, message: &str) {
        if self.debug {
            self.line(Level::Debug, message, None);
        }
    }

    /// One write, so that lines of several processes do not mix.
    fn line(&self, level: Level, message: &str, cause: Option<&Cause>) {
        let rendered = || render(self.format, level, (message, cause), SystemTime::now());
        let _ = match (&self.place, self.format) {
            (Place::File(file), _) => (&mut &*file).write_all(rendered().as_bytes()),
            (Place::StandardError, _) => std::io::stderr().write_all(rendered().as_bytes()),
            // Time and level are the daemon's.
            (Place::Daemon(daemon), Format::Text) => daemon.send(level, message),
            (Place::Daemon(daemon), Format::Json) => daemon.send(level, rendered().trim_end()),
        };
    }
}

impl Place {
    /// `written` is a path, or one of `file:PATH`, `journald:[IDENTIFIER]` and `syslog:[IDENTIFIER]`.
    fn open(written: &str, author: Author<'_>) -> Result<Self, String> {
        let daemons = [
            ("journald:", Protocol::Journal, author.program),
            (
                "syslog:",
                Protocol::Syslog,
                author.container.unwrap_or(author.program),
            ),
        ];
        for (prefix, protocol, own) in daemons {
            if let Some(identifier) = written.strip_prefix(prefix) {
                let identifier = if identifier.is_empty() {
                    own
                } else {
                    identifier
                };
                let connected = Daemon::connect(protocol, identifier, author.container);
                return connected.map(Self::Daemon).map_err(|error| {
                    let error = crate::format::io(&error);
                    format!("log: connect({:?}): {error}", protocol.path())
                });
            }
        }
        let path = written.strip_prefix("file:").unwrap_or(written);
        if matches!(path, "" | "/dev/stderr") {
            return Ok(Self::StandardError);
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o644);
        let opened = options.custom_flags(nix::libc::O_SYNC).open(path);
        opened.map(Self::File).map_err(|error| {
            let error = crate::format::io(&error);
            format!("log: open({path:?}, O_CREAT|O_APPEND): {error}")
        })
    }
}

fn render(format: Format, level: Level, what: (&str, Option<&Cause>), now: SystemTime) -> String {
    let (message, cause) = what;
    let (level, time) = (level.name(), time::seconds(now));
    match format {
        // As logrus has it, and then what is ours.
        Format::Json => {
            let mut line = String::from("{");
            let mut field = |key: &str, value: &str| {
                let comma = if line.len() > 1 { "," } else { "" };
                let _ = write!(line, "{comma}\"{key}\":{}", as_json(value));
            };
            field("level", level);
            field("msg", message);
            field("time", &time);
            if let Some(cause) = cause {
                field("code", cause.code);
                let more = [("errno", &cause.errno), ("pointer", &cause.pointer)];
                for (key, value) in more {
                    if let Some(value) = value {
                        field(key, value);
                    }
                }
            }
            line + "}\n"
        }
        Format::Text => format!("time=\"{time}\" level={level} msg={}\n", as_text(message)),
    }
}

/// A string as Go's encoder writes it: what could end a script element is escaped too.
fn as_json(text: &str) -> String {
    let json = serde_json::to_string(text).unwrap_or_default();
    json.chars().fold(String::new(), |mut escaped, c| {
        if matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') {
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
        escaped
    })
}

/// A string as logrus writes it: bare where it is of letters, digits and a few signs, else quoted as Go's `%q`.
fn as_text(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            c if c.is_ascii_control() => drop(write!(quoted, "\\x{:02x}", u32::from(c))),
            c if c.is_control() => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn line(format: Format, message: &str) -> String {
        let now = UNIX_EPOCH + Duration::from_secs(1);
        render(format, Level::Error, (message, None), now)
    }

    #[test]
    fn text_lines_are_those_of_logrus() {
        for (message, expected) in [
            ("container does not exist", r#""container does not exist""#),
            ("plain-word_1", "plain-word_1"),
            ("/a/b.c@d^e+f", "/a/b.c@d^e+f"),
            ("", ""),
            (
                "say \"no\" \\ \n\t\u{1}\u{7f}\u{85}",
                r#""say \"no\" \\ \n\t\x01\x7f\u0085""#,
            ),
            ("größe <&>", "\"größe <&>\""),
        ] {
            let expected = format!("time=\"1970-01-01T00:00:01Z\" level=error msg={expected}\n");
            assert_eq!(line(Format::Text, message), expected);
        }
    }

    #[test]
    fn causes_are_fields() {
        let cause = Cause {
            code: "invalid_spec",
            errno: Some("EINVAL".to_owned()),
            pointer: Some("/process/cwd".to_owned()),
        };
        let line = render(Format::Json, Level::Error, ("m", Some(&cause)), UNIX_EPOCH);
        let expected = r#"{"level":"error","msg":"m","time":"1970-01-01T00:00:00Z","code":"invalid_spec","errno":"EINVAL","pointer":"/process/cwd"}"#;
        assert_eq!(line.trim_end(), expected);
        let line = render(Format::Text, Level::Error, ("m", Some(&cause)), UNIX_EPOCH);
        assert!(line.ends_with("level=error msg=m\n"), "{line}");
    }

    #[test]
    fn json_lines_are_those_of_logrus() {
        for (message, expected) in [
            ("a \"b\" \\ \n\u{1}", r#"a \"b\" \\ \n\u0001"#),
            ("<a> & größe\u{2028}", r"\u003ca\u003e \u0026 größe\u2028"),
        ] {
            let expected = format!(
                "{{\"level\":\"error\",\"msg\":\"{expected}\",\"time\":\"1970-01-01T00:00:01Z\"}}\n"
            );
            let line = line(Format::Json, message);
            assert_eq!(line, expected);
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(read["msg"], message);
        }
    }
}
