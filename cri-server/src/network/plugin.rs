//! One plugin executed: its input, its output, and the limits of both.

use crate::error::{Error, Kind, Result};
use serde_json::Value;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// Largest output of a plugin, in bytes.
const MAX_OUTPUT: usize = 1 << 20;
/// How much of what it says besides is kept, in bytes.
const MAX_WORDS: usize = 4096;
/// How long the output may stay open after the plugin has ended.
const CLOSING: Duration = Duration::from_secs(1);
/// A program that was just being written is tried again, after this time.
const BUSY: Duration = Duration::from_millis(100);
/// So often.
const BUSY_TRIES: u32 = 5;
/// Where administrators' programs are, which plugins call.
const SBIN: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// What a plugin is told, but for its configuration.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its program.
    pub program: PathBuf,
    /// ADD, DEL, CHECK, STATUS or GC.
    pub command: &'static str,
    /// `CNI_CONTAINERID`, `CNI_NETNS` and the like.
    pub variables: Vec<(&'static str, String)>,
    /// After that everything it has started is killed.
    pub limit: Duration,
}

impl Call {
    /// Executes the plugin with a configuration on its standard input.
    ///
    /// # Errors
    /// `Unavailable` where the plugin says to try again later, `Deadline` when the time is over, otherwise `Failed`, each
    /// with what the plugin said.
    pub async fn run(&self, config: &Value) -> Result<Vec<u8>> {
        let mut child = self.spawn().await?;
        // The number is taken until the child was waited for: nobody else's group has it.
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        let done = tokio::time::timeout(self.limit, talk(&mut child, config.to_string())).await;
        let done = done.unwrap_or_else(|_| {
            let text = format!("did not end within {:?}, and was killed", self.limit);
            Err(Error::new(Kind::Deadline, text))
        });
        if done.is_err() && child.id().is_some() {
            end_group(group);
            // It is dead, or in a call of the kernel that nothing ends: who reaps orphans then reaps it.
            drop(tokio::time::timeout(CLOSING, child.wait()).await);
        }
        done.and_then(|(status, output, words)| judged(status, output, &words))
    }

    async fn spawn(&self) -> Result<Child> {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(&self.program);
        command
            .env_remove("NOTIFY_SOCKET")
            .env("PATH", format!("{path}:{SBIN}"))
            .env("CNI_COMMAND", self.command)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for _ in 0..BUSY_TRIES {
            match command.spawn() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    tokio::time::sleep(BUSY).await;
                }
                child => {
                    let name = self.program.display();
                    return child.map_err(|error| Error::os(format!("execve {name}"), &error));
                }
            }
        }
        Err(Error::new(Kind::Failed, "its program is being written"))
    }
}

fn end_group(group: Option<i32>) {
    if let Some(group) = group.and_then(rustix::process::Pid::from_raw) {
        // Gone meanwhile is what is wanted.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

type Said = (ExitStatus, Vec<u8>, Vec<u8>);

async fn talk(child: &mut Child, input: String) -> Result<Said> {
    let closed = || Error::new(Kind::Failed, "its streams are not there");
    let mut stdin = child.stdin.take().ok_or_else(closed)?;
    let stdout = child.stdout.take().ok_or_else(closed)?;
    let stderr = child.stderr.take().ok_or_else(closed)?;
    let streams = async {
        let feed = async {
            // One that does not read its input says what it has to say all the same.
            drop(stdin.write_all(input.as_bytes()).await);
            drop(stdin);
        };
        tokio::join!(feed, output(stdout), words(stderr))
    };
    let mut streams = pin!(streams);
    let (status, (_, output, words)) = tokio::select! {
        said = &mut streams => (child.wait().await, said),
        status = child.wait() => {
            let said = tokio::time::timeout(CLOSING, &mut streams).await.map_err(|_| {
                Error::new(Kind::Failed, "has ended, but something that it started holds its output")
            });
            (status, said?)
        }
    };
    let status = status.map_err(|error| Error::os("wait", &error))?;
    Ok((status, output?, words))
}

async fn output(stream: impl AsyncRead + Unpin) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = MAX_OUTPUT as u64 + 1;
    let read = stream.take(most).read_to_end(&mut bytes).await;
    read.map_err(|error| Error::os("read", &error))?;
    if bytes.len() > MAX_OUTPUT {
        let text = format!("prints more than {MAX_OUTPUT} bytes");
        return Err(Error::new(Kind::Failed, text));
    }
    Ok(bytes)
}

/// The beginning; what follows is read and dropped.
async fn words(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut part = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut part).await {
        let room = MAX_WORDS.saturating_sub(kept.len());
        kept.extend_from_slice(&part[..length.min(room)]);
    }
    kept
}

/// The output of a plugin that went well, or its error.
fn judged(status: ExitStatus, output: Vec<u8>, words: &[u8]) -> Result<Vec<u8>> {
    if status.success() {
        return Ok(output);
    }
    let error: Value = serde_json::from_slice(&output).unwrap_or_default();
    let part = |key: &str| error[key].as_str().unwrap_or_default().trim().to_owned();
    let mut text = part("msg");
    let details = part("details");
    if !details.is_empty() {
        text = format!("{text}: {details}");
    }
    if text.is_empty() {
        let raw = if words.is_empty() { &output } else { words };
        let raw = &raw[..raw.len().min(MAX_WORDS)];
        text = String::from_utf8_lossy(raw).trim().to_owned();
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let text = match lines.collect::<Vec<_>>().join("; ").as_str() {
        "" => format!("{status}, without a word"),
        words => format!("{words} ({status})"),
    };
    let kind = match error["code"].as_u64() {
        // "Try again later", and the two of STATUS.
        Some(11 | 50 | 51) => Kind::Unavailable,
        _ => Kind::Failed,
    };
    Err(Error::new(kind, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn script(dir: &std::path::Path, text: &str) -> Call {
        let program = dir.join("plugin");
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Call {
            program,
            command: "ADD",
            variables: vec![("CNI_IFNAME", "eth0".to_owned())],
            limit: Duration::from_secs(60),
        }
    }

    #[tokio::test]
    async fn what_goes_in_and_out() {
        let dir = tempfile::tempdir().unwrap();
        let call = script(
            dir.path(),
            "echo \"$CNI_COMMAND $CNI_IFNAME $(cat)\"; echo noise >&2",
        );
        let output = call.run(&serde_json::json!({"a": 1})).await.unwrap();
        assert_eq!(output, b"ADD eth0 {\"a\":1}\n");
        // The input is more than a pipe holds, and nobody reads it.
        let big = Value::String("x".repeat(1 << 20));
        assert_eq!(
            script(dir.path(), "echo ok").run(&big).await.unwrap(),
            b"ok\n"
        );
    }

    #[tokio::test]
    async fn failures_say_what_the_plugin_said() {
        let dir = tempfile::tempdir().unwrap();
        for (text, kind, words) in [
            (
                r#"printf %s '{"code": 7, "msg": "no range", "details": "of\naddresses"}'; exit 1"#,
                Kind::Failed,
                "no range: of; addresses (exit status: 1)",
            ),
            (
                r#"echo '{"code": 11, "msg": "later"}'; exit 1"#,
                Kind::Unavailable,
                "later",
            ),
            (
                "echo oops >&2; exit 3",
                Kind::Failed,
                "oops (exit status: 3)",
            ),
            ("exit 4", Kind::Failed, "exit status: 4, without a word"),
            ("kill -9 $$", Kind::Failed, "signal: 9"),
            (
                "head -c 3000000 /dev/zero",
                Kind::Failed,
                "prints more than 1048576 bytes",
            ),
        ] {
            let error = script(dir.path(), text)
                .run(&Value::Null)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
        let mut none = script(dir.path(), "");
        none.program = dir.path().join("none");
        assert!(
            none.run(&Value::Null)
                .await
                .unwrap_err()
                .to_string()
                .contains("execve")
        );
    }

    #[tokio::test]
    async fn who_hangs_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let text = format!("sleep 4321 & echo $! > {}; wait", pid.display());
        let mut call = script(dir.path(), &text);
        call.limit = Duration::from_secs(2);
        let error = call.run(&Value::Null).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Deadline, "{error}");
        let child = std::fs::read_to_string(pid).unwrap();
        let stat = format!("/proc/{}/stat", child.trim());
        // Killed, though perhaps not yet waited for.
        for _ in 0..600 {
            let state = std::fs::read_to_string(&stat).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{stat} lives");
    }
}
