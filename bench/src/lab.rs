//! Where the containers of a measurement live: a private mount namespace, our cgroups, one bundle with its rootfs, and
//! a state directory a runtime. Dropped, all of it is removed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cgroups::{Cgroups, Layout};
use crate::options::Driver;
use crate::programs::{Own, in_path};
use crate::{spec, sys};

/// The payload inside the rootfs, whichever program `true` is.
pub const PAYLOAD: &str = "/bin/payload";
/// The program that ends at once inside the rootfs.
pub const TRUE: &str = "/bin/true";

/// See the module.
#[derive(Debug)]
pub struct Lab {
    directory: PathBuf,
    payload: String,
    /// Our directories in the hierarchies.
    pub cgroups: Cgroups,
    driver: Driver,
}

impl Lab {
    /// Sets everything up below `directory`, which must not exist, and moves this process into its own mount namespace.
    ///
    /// # Errors
    /// The step that was refused; without root the namespace is.
    pub fn set_up(directory: &Path, own: &Own, driver: Driver) -> Result<Self, String> {
        let context = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        sys::private_mounts().map_err(context("make a private mount namespace (are you root?)"))?;
        sys::adopt_orphans().map_err(context("become the subreaper"))?;
        fs::create_dir_all(directory).map_err(context("make the scratch directory"))?;
        let cgroups =
            Cgroups::prepare(directory).inspect_err(|_| drop(fs::remove_dir_all(directory)))?;
        let mut lab = Self {
            directory: directory.to_owned(),
            payload: String::new(),
            cgroups,
            driver,
        };
        lab.payload = lab.make_rootfs(own).map_err(context("make the rootfs"))?;
        Ok(lab)
    }

    /// Who makes the cgroups, in words.
    pub fn describe_driver(&self) -> &'static str {
        match self.driver {
            Driver::Cgroupfs => "by the runtimes",
            Driver::Systemd => "by systemd, but for the floor's",
        }
    }

    /// What `true` is inside the containers, in words.
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// The rootfs of all bundles.
    pub fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// A bundle that runs `command` as the container `id`, with `seccomp` if given, as the directory to pass to `--bundle`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn bundle(
        &self,
        id: &str,
        command: &[&str],
        seccomp: Option<&Value>,
    ) -> Result<PathBuf, String> {
        let directory = self.directory.join("bundles").join(id);
        let namespace = self.cgroups.layout() == Layout::Unified;
        let path = match self.driver {
            Driver::Cgroupfs => self.cgroups.path_of(id),
            Driver::Systemd => format!("ocirun-bench.slice:bench:{id}"),
        };
        let mut config = spec::default_spec(command, &path, namespace);
        config["root"]["path"] = Value::from(self.rootfs().to_string_lossy());
        if let Some(seccomp) = seccomp {
            config["linux"]["seccomp"] = seccomp.clone();
        }
        let written = fs::create_dir_all(&directory)
            .and_then(|()| fs::write(directory.join("config.json"), config.to_string()));
        written.map_err(|error| format!("write {}: {error}", directory.display()))?;
        Ok(directory)
    }

    /// A command of the runtime `program`, with a state directory of its own and silent.
    pub fn command(&self, program: &Path) -> Command {
        let name = program.to_string_lossy().replace('/', "_");
        let mut command = Command::new(program);
        command
            .arg("--root")
            .arg(self.directory.join("state").join(name));
        if self.driver == Driver::Systemd {
            command.arg("--systemd-cgroup");
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Runs a command to its end and returns how long that took.
    ///
    /// # Errors
    /// It cannot be run or does not succeed, with what it said; or a signal asked for the end.
    pub fn timed(&self, mut command: Command) -> Result<Duration, String> {
        let log = self.directory.join("stderr");
        // A file, because a pipe would cost time and a container's process may keep it open.
        let stderr =
            fs::File::create(&log).map_err(|error| format!("make {}: {error}", log.display()))?;
        command.stderr(stderr);
        let start = Instant::now();
        let status = command.status();
        let elapsed = start.elapsed();
        let status = status
            .map_err(|error| format!("run {}: {error}", command.get_program().to_string_lossy()))?;
        if sys::interrupted() {
            return Err("interrupted".to_owned());
        }
        if status.success() {
            return Ok(elapsed);
        }
        let complaint = fs::read_to_string(&log).unwrap_or_default();
        Err(format!(
            "{status}: {}",
            complaint.trim().replace('\n', "; ")
        ))
    }

    /// A path for a pid file.
    pub fn pid_file(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.pid"))
    }

    fn make_rootfs(&self, own: &Own) -> std::io::Result<String> {
        let rootfs = self.rootfs();
        for directory in ["bin", "proc", "dev", "sys"] {
            fs::create_dir_all(rootfs.join(directory))?;
        }
        let inside = |path: &str| rootfs.join(path.trim_start_matches('/'));
        copy_program(&own.payload, &inside(PAYLOAD))?;
        match in_path("busybox").filter(|path| is_static(path)) {
            Some(busybox) => {
                copy_program(&busybox, &inside("/bin/busybox"))?;
                symlink("busybox", inside(TRUE))?;
                Ok(format!("true of {} (static)", busybox.display()))
            }
            None => {
                symlink("payload", inside(TRUE))?;
                Ok(
                    "a static program of our own that exits at once (no static busybox found)"
                        .to_owned(),
                )
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("ocirun-bench: remove {}: {error}", self.directory.display());
        }
    }
}

fn copy_program(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))
}

/// Whether a program names no interpreter, that is, whether it runs in an empty rootfs.
fn is_static(path: &Path) -> bool {
    let listing = Command::new("ldd").arg(path).output();
    listing.is_ok_and(|output| !String::from_utf8_lossy(&output.stdout).contains('/'))
}
