//! A container under test: its verbs as calls of the runtime, and its end, whatever happens to the test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::bundle::{Bundle, PROBE, temporary_directory};
use crate::command::{Finished, Invocation, Running};
use crate::eventually;
use crate::programs::{probe_program, runtime};

/// A container with its bundle and a state directory (`--root`) of its own. On drop it is deleted by force, and its
/// processes, mounts, cgroups and files are removed even if the runtime left them.
#[derive(Debug)]
pub struct Container {
    /// The bundle it is made of.
    pub bundle: Bundle,
    /// Its id, unique on this machine.
    pub id: String,
    state: TempDir,
    user: Option<(u32, u32)>,
}

impl Container {
    pub(crate) fn new(bundle: Bundle) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!(
            "test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Self {
            bundle,
            id,
            state: temporary_directory(),
            user: None,
        }
    }

    /// One whose PID 1 traps all signals and ends on SIGTERM.
    #[must_use]
    pub fn trapping() -> Self {
        Bundle::new().probe(&["trap"]).container()
    }

    /// One whose PID 1 ignores all signals that can be ignored.
    #[must_use]
    pub fn pausing() -> Self {
        Bundle::new().probe(&["pause"]).container()
    }

    /// Creates it.
    #[must_use]
    pub fn created(self) -> Self {
        self.create().ok();
        self
    }

    /// Runs it until its probe has said that it is ready.
    #[must_use]
    pub fn running(self) -> Self {
        let run = self.run_detached().ok();
        eventually("ready", || run.stdout().contains("ready"));
        self
    }

    /// Runs and kills it.
    #[must_use]
    pub fn stopped(self) -> Self {
        let container = self.running();
        container.kill("KILL").ok();
        container.wait_for_status("stopped");
        container
    }

    /// Calls the runtime as this user, to whom bundle and state directory are given.
    ///
    /// # Panics
    /// When the files cannot be given away: that needs root.
    #[must_use]
    pub fn owned_by(mut self, uid: u32, gid: u32) -> Self {
        for directory in [self.bundle.path(), self.state.path()] {
            give_away(directory, uid, gid);
        }
        self.user = Some((uid, gid));
        self
    }

    /// The runtime's state directory.
    #[must_use]
    pub fn state_root(&self) -> &Path {
        self.state.path()
    }

    /// A path in the bundle's directory, for pid files, sockets and logs.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.bundle.path().join(name)
    }

    /// A call of the runtime with `--root` and, if asked for, as another user.
    #[must_use]
    pub fn runtime(&self) -> Invocation {
        let call = Invocation::new(&runtime().program)
            .arg("--root")
            .arg(self.state.path());
        match self.user {
            Some((uid, gid)) => call.user(uid, gid),
            None => call,
        }
    }

    /// A call like [`Container::runtime`], by a caller that leaves descriptors 3 to 3 + `count` open.
    #[must_use]
    pub fn runtime_with_descriptors(&self, count: u32) -> Invocation {
        let call = Invocation::new(probe_program()).args(["with-fds", &count.to_string()]);
        call.arg(&runtime().program)
            .arg("--root")
            .arg(self.state.path())
    }

    /// A call of one command; flags and the id are still to be given.
    #[must_use]
    pub fn command(&self, verb: &str) -> Invocation {
        self.runtime().arg(verb)
    }

    /// `<verb> --bundle <bundle> <flags> <id>`, for create and run.
    #[must_use]
    pub fn from_bundle(&self, verb: &str, flags: &[&str]) -> Invocation {
        self.command(verb)
            .arg("--bundle")
            .arg(self.bundle.path())
            .args(flags)
            .arg(&self.id)
    }

    /// `run` in the foreground, until its end.
    #[must_use]
    pub fn run(&self) -> Finished {
        self.from_bundle("run", &[]).finish()
    }

    /// `run --detach`.
    #[must_use]
    pub fn run_detached(&self) -> Finished {
        self.from_bundle("run", &["--detach"]).finish()
    }

    /// `create`.
    #[must_use]
    pub fn create(&self) -> Finished {
        self.from_bundle("create", &[]).finish()
    }

    /// `start`.
    #[must_use]
    pub fn start(&self) -> Finished {
        self.command("start").arg(&self.id).finish()
    }

    /// `kill <id> <signal>`.
    #[must_use]
    pub fn kill(&self, signal: &str) -> Finished {
        self.command("kill").arg(&self.id).arg(signal).finish()
    }

    /// `delete`.
    #[must_use]
    pub fn delete(&self) -> Finished {
        self.command("delete").arg(&self.id).finish()
    }

    /// `<verb> <id>`, for pause, resume, state and the like.
    #[must_use]
    pub fn verb(&self, verb: &str) -> Finished {
        self.command(verb).arg(&self.id).finish()
    }

    /// What `state` prints, parsed.
    ///
    /// # Panics
    /// When it fails or prints no JSON.
    #[must_use]
    #[track_caller]
    pub fn state(&self) -> Value {
        let call = self.verb("state").ok();
        serde_json::from_str(&call.stdout()).unwrap_or_else(|error| panic!("{error} in: {call}"))
    }

    /// The status that `state` prints.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The host's process id of PID 1, as `state` prints it.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let state = self.state();
        i32::try_from(state["pid"].as_i64().unwrap_or_default())
            .ok()
            .filter(|&pid| pid > 0)
            .expect("a running init")
    }

    /// Waits until `state` says so.
    #[track_caller]
    pub fn wait_for_status(&self, status: &str) {
        eventually(status, || self.status() == status);
    }

    /// `exec <flags> <id> probe <steps>`, until its end.
    #[must_use]
    pub fn exec_with(&self, flags: &[&str], steps: &[&str]) -> Finished {
        self.exec_call(flags, steps).finish()
    }

    /// `exec <id> probe <steps>`, until its end.
    #[must_use]
    pub fn exec(&self, steps: &[&str]) -> Finished {
        self.exec_with(&[], steps)
    }

    /// `exec <flags> <id> probe <steps>`, not yet started.
    #[must_use]
    pub fn exec_call(&self, flags: &[&str], steps: &[&str]) -> Invocation {
        self.command("exec")
            .args(flags)
            .arg(&self.id)
            .arg(PROBE)
            .args(steps)
    }

    /// Starts `run` in the foreground, and waits for the probe's `"ready"`.
    #[must_use]
    pub fn run_until_ready(&self) -> Running {
        let mut run = self.from_bundle("run", &[]).start();
        eventually("ready", || {
            run.stdout().contains("\"ready\"") || run.ended()
        });
        run
    }

    /// `run --detach`, and waits for the probe's `"ready"`.
    ///
    /// # Panics
    /// When it fails, or is not ready in time.
    #[track_caller]
    pub fn run_until_ready_detached(&self) {
        let run = self.run_detached().ok();
        eventually("ready", || run.stdout().contains("\"ready\""));
    }

    /// Ends whatever has one of this container's directories in its command line: they are nobody else's.
    fn kill_leftovers(&self) {
        let own =
            [self.bundle.path(), self.state.path()].map(|path| path.to_string_lossy().into_owned());
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            let pid = entry.file_name().to_string_lossy().parse::<i32>();
            if let (Ok(pid), true) = (pid, own.iter().any(|path| line.contains(path))) {
                let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    fn unmount_leftovers(&self) {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let ours = |path: &Path| {
            path.starts_with(self.bundle.path()) || path.starts_with(self.state.path())
        };
        let left = table
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .map(Path::new)
            .filter(|path| ours(path));
        for path in left.collect::<Vec<&Path>>().into_iter().rev() {
            let _gone = umount2(path, MntFlags::MNT_DETACH);
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.state.path().join(&self.id).exists() {
            let delete = self.command("delete").args(["--force", &self.id]).start();
            if let Err(words) = delete.finish_in_time() {
                eprintln!("clean up: {words}");
            }
        }
        self.kill_leftovers();
        self.bundle.cgroup().destroy();
        self.unmount_leftovers();
    }
}

/// Gives a directory to a user, without the probe, which all bundles share.
fn give_away(path: &Path, uid: u32, gid: u32) {
    if path.ends_with("bin/probe") {
        return;
    }
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).expect("chown");
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).expect("read a directory") {
            give_away(&entry.expect("read a directory").path(), uid, gid);
        }
    }
}
