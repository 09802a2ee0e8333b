//! The job: its tasks one after the other, their output and exit codes to the host, and the end of the machine.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ocirun_tests::machine::{
    Caller, Job, Manager, Message, PORT, SHARE, TIMED_OUT, Task, USER, USER_ID,
};
use rustix::system::{RebootCommand, reboot};

/// How often a running task is looked at.
const PERIOD: Duration = Duration::from_millis(20);

/// Does the job, and turns the machine off.
///
/// # Errors
/// What failed, in words; the host was told where that was possible.
pub fn run() -> Result<(), String> {
    let mut port = Port::open()?;
    let last = match work(&mut port) {
        Ok(()) => Message::Finished,
        Err(words) => Message::Broken(words),
    };
    port.tell(&last)?;
    reboot(RebootCommand::PowerOff).map_err(|errno| format!("turn the machine off: {errno}"))
}

/// The job that the host left on the second disk, mounted here.
pub fn read_job(share: &Path) -> Result<Job, String> {
    let path = share.join("job.json");
    let text = fs::read(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Where PID 1 without systemd makes the ordinary user's cgroup.
pub fn delegated_cgroup() -> PathBuf {
    PathBuf::from(format!("/sys/fs/cgroup/user-{USER_ID}"))
}

/// The way to the host. Only one process at a time can open it; its children inherit it.
#[derive(Debug)]
pub struct Port {
    file: File,
}

impl Port {
    /// Opens the port by its name.
    pub fn open() -> Result<Self, String> {
        let ports = fs::read_dir("/sys/class/virtio-ports")
            .map_err(|error| format!("read /sys/class/virtio-ports: {error}"))?;
        let ours = |directory: &PathBuf| {
            fs::read_to_string(directory.join("name")).is_ok_and(|name| name.trim() == PORT)
        };
        let directory = ports.flatten().map(|entry| entry.path()).find(ours);
        let name = directory.as_deref().and_then(Path::file_name);
        let device = Path::new("/dev").join(name.ok_or_else(|| format!("no virtio port {PORT}"))?);
        let file = OpenOptions::new()
            .write(true)
            .open(&device)
            .map_err(|error| format!("open {}: {error}", device.display()))?;
        Ok(Self { file })
    }

    /// Sends a message.
    pub fn tell(&mut self, message: &Message) -> Result<(), String> {
        let sent = self.file.write_all(message.to_line().as_bytes());
        sent.map_err(|error| format!("write to the virtio port: {error}"))
    }

    /// For a child's standard output or error.
    fn stdio(&self) -> Result<Stdio, String> {
        let copy = self.file.try_clone();
        Ok(Stdio::from(
            copy.map_err(|error| format!("duplicate: {error}"))?,
        ))
    }
}

fn work(port: &mut Port) -> Result<(), String> {
    let job = read_job(Path::new(SHARE))?;
    for task in &job.tasks {
        port.tell(&Message::Started(task.name.clone()))?;
        let child = command(&job, task)
            .stdin(Stdio::null())
            .stdout(port.stdio()?)
            .stderr(port.stdio()?)
            .spawn()
            .map_err(|error| format!("start {}: {error}", task.command.join(" ")))?;
        let code = wait(child, Duration::from_secs(job.limit))?;
        port.tell(&Message::Ended(task.name.clone(), code))?;
    }
    Ok(())
}

/// The command of a task for its caller: root's own, or one of the ordinary user in a delegated cgroup.
fn command(job: &Job, task: &Task) -> Command {
    let mut command = match (job.caller, job.manager) {
        (Caller::Root, _) => {
            let mut command = Command::new(&task.command[0]);
            command.args(&task.command[1..]).env("HOME", "/root");
            command.envs(job.environment.iter().cloned());
            command
        }
        (Caller::User, Manager::Systemd) => by_user_manager(job, task),
        (Caller::User, Manager::Plain) => {
            // The shell enters the cgroup as root, which may move processes there from outside, and setpriv(1) gives
            // the rest of root up.
            let mut command = Command::new("/bin/sh");
            let procs = delegated_cgroup().join("tests/cgroup.procs");
            let script = format!(
                "echo 0 > {} && exec setpriv --reuid {USER_ID} --regid {USER_ID} --init-groups \
                 --inh-caps=-all -- \"$@\"",
                procs.display()
            );
            command.args(["-c", &script, "sh"]).args(&task.command);
            command
                .env("HOME", format!("/home/{USER}"))
                .env("USER", USER);
            command.envs(job.environment.iter().cloned());
            command
        }
    };
    command.current_dir("/");
    command
}

/// A unit of the user manager, which runs because the user lingers.
fn by_user_manager(job: &Job, task: &Task) -> Command {
    let mut command = Command::new("/usr/bin/systemd-run");
    command.args([
        "--user",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        "--working-directory=/",
        "--property=Delegate=yes",
        "--property=TasksMax=infinity",
    ]);
    for (name, value) in &job.environment {
        command.arg(format!("--setenv={name}={value}"));
    }
    command.arg("--").args(&task.command);
    command
        .uid(USER_ID)
        .gid(USER_ID)
        .env("XDG_RUNTIME_DIR", format!("/run/user/{USER_ID}"));
    command
}

fn wait(mut child: Child, limit: Duration) -> Result<i32, String> {
    let end = Instant::now() + limit;
    loop {
        let status = child
            .try_wait()
            .map_err(|error| format!("wait for {}: {error}", child.id()))?;
        if let Some(status) = status {
            return Ok(code(status));
        }
        if Instant::now() > end {
            child
                .kill()
                .and_then(|()| child.wait())
                .map_err(|error| format!("end {}: {error}", child.id()))?;
            return Ok(TIMED_OUT);
        }
        std::thread::sleep(PERIOD);
    }
}

fn code(status: ExitStatus) -> i32 {
    let by_signal = status.signal().map(|signal| 128 + signal);
    status.code().or(by_signal).unwrap_or(i32::MAX)
}
