//! The log: lines of text, or one JSON object a line, as callers of runc read them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::SystemTime;

use crate::time;

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

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Log {
    /// Standard error where there is none.
    file: Option<File>,
    format: Format,
    debug: bool,
}

impl Log {
    /// Standard error, as text: before the command line says otherwise.
    pub(crate) fn standard() -> Self {
        Self {
            file: None,
            format: Format::Text,
            debug: false,
        }
    }

    /// Opens the log at `path`.
    ///
    /// # Errors
    /// The line to show where the file cannot be opened or the format is none.
    pub(crate) fn open(
        path: Option<&str>,
        format: Option<&str>,
        debug: bool,
    ) -> Result<Self, String> {
        let format = match format {
            None | Some("" | "text") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => return Err(format!("invalid log-format: {other}")),
        };
        let open = |path: &str| {
            let mut options = OpenOptions::new();
            options
                .append(true)
                .create(true)
                .mode(0o644)
                .custom_flags(nix::libc::O_SYNC)
                .open(path)
        };
        let file = match path {
            None | Some("" | "/dev/stderr") => None,
            Some(path) => Some(open(path).map_err(|error| {
                format!(
                    "log: open({path:?}, O_CREAT|O_APPEND): {}",
                    crate::format::io(&error)
                )
            })?),
        };
        Ok(Self {
            file,
            format,
            debug,
        })
    }

    /// The error that ends a command: a line in the log, and the bare words on standard error where that is elsewhere.
    pub(crate) fn fatal(&self, message: &str) {
        self.line(Level::Error, message);
        if self.file.is_some() {
            let _ = writeln!(std::io::stderr(), "{message}");
        }
    }

    pub(crate) fn warning(&self, message: &str) {
        self.line(Level::Warning, message);
    }

    pub(crate) fn debug(&self, message: &str) {
        if self.debug {
            self.line(Level::Debug, message);
        }
    }

    /// One write, so that lines of several processes do not mix.
    fn line(&self, level: Level, message: &str) {
        let line = render(self.format, level, message, SystemTime::now());
        let _ = match &self.file {
            Some(file) => (&mut &*file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

fn render(format: Format, level: Level, message: &str, now: SystemTime) -> String {
    let (level, time) = (level.name(), time::seconds(now));
    match format {
        Format::Json => format!(
            "{{\"level\":\"{level}\",\"msg\":{},\"time\":\"{time}\"}}\n",
            quoted(message)
        ),
        Format::Text => format!("time=\"{time}\" level={level} msg={}\n", quoted(message)),
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn lines() {
        let now = UNIX_EPOCH + Duration::from_secs(1);
        for (format, expected) in [
            (
                Format::Json,
                "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\n\",\"time\":\"1970-01-01T00:00:01Z\"}\n",
            ),
            (
                Format::Text,
                "time=\"1970-01-01T00:00:01Z\" level=error msg=\"a \\\"b\\\"\\n\"\n",
            ),
        ] {
            assert_eq!(render(format, Level::Error, "a \"b\"\n", now), expected);
        }
    }
}
