//! A container on disk, and its status, which is the kernel's word and not the disk's.
//!
//! ```text
//! <root>/                0700
//!   <id>/                0711, locked by flock while a verb changes the container
//!     config.json        as it was when the container was created
//!     state.json         Record; written whole, then renamed into place
//!     criu-root/         while it is restored: where CRIU has the root mounted, in a mount namespace of its own
//!     exec.fifo          from create to start: the container's process waits in it
//!     notify/            what the container sees as /run/notify, with a socket while somebody listens
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat, umask};
use nix::unistd::{Gid, Pid, Uid, UnlinkatFlags, faccessat, fchownat, geteuid, unlinkat};
use serde::{Deserialize, Serialize};

use crate::bundle::{CONFIG, read_limited};
use crate::cgroup::Cgroup;
use crate::error::{Call, Context, Error, ErrorKind, Result};
use crate::hooks::HookState;
use crate::rdt;
use crate::spec::{MAX_CONFIG_BYTES, Spec};

mod notify;

pub(crate) use notify::NOTIFY;

const RECORD: &str = "state.json";
const NEW_RECORD: &str = ".state.json";
const CRIU_ROOT: &str = "criu-root";
const FIFO: &str = "exec.fifo";
/// Longest id: a name of a directory.
const LONGEST_ID: usize = 255;

/// Where the life of a container has come to, runtime.md "State".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` is at work, or died at it.
    Creating,
    /// All is made, and the program waits for `start`.
    Created,
    /// The program runs.
    Running,
    /// The program runs, and its cgroup is frozen.
    Paused,
    /// The program has ended.
    Stopped,
}

impl Status {
    /// The word of the specification.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// What is known of a container.
#[derive(Clone, Debug)]
pub struct State {
    /// The version of the specification its configuration follows.
    pub oci_version: String,
    /// Its name.
    pub id: String,
    /// Where its life has come to.
    pub status: Status,
    /// Its first process as the host sees it; 0 when there is none.
    pub pid: i32,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root file system.
    pub rootfs: PathBuf,
    /// When it was created.
    pub created: SystemTime,
    /// Free data of the caller.
    pub annotations: BTreeMap<String, String>,
    /// Effective user id of who created it.
    pub owner: u32,
}

/// `state.json`: what `create` found out and later verbs need.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) oci_version: String,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// Nanoseconds since 1970.
    pub(crate) created: u64,
    pub(crate) owner: u32,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) cgroup: Cgroup,
    /// Where it has shares of caches and memory bandwidth, if it asks for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rdt: Option<rdt::Group>,
    /// Whether the end of the first process is the end of all: it has a PID namespace of its own.
    pub(crate) own_pids: bool,
    /// None until there is one.
    pub(crate) init: Option<Identity>,
    pub(crate) hooks: HookPoints,
}

/// Points of the container's later life at which hooks run: without any, its configuration need not be read again.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct HookPoints {
    pub(crate) poststart: bool,
    pub(crate) poststop: bool,
}

/// A process that cannot be taken for a later one of the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Clock ticks after boot, field 22 of proc_pid_stat(5).
    pub(crate) start_time: u64,
}

impl Identity {
    /// Of the living process `pid`.
    ///
    /// # Errors
    /// `ESRCH` where it has ended.
    pub(crate) fn of(pid: Pid) -> Result<Self> {
        let stat = Stat::read(pid.as_raw())
            .ok_or_else(|| Error::os(format!("read(\"/proc/{pid}/stat\")"), Errno::ESRCH))?;
        Ok(Self {
            pid: pid.as_raw(),
            start_time: stat.start_time,
        })
    }

    /// Whether this very process is still there, if only as a zombie.
    pub(crate) fn exists(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.start_time == self.start_time)
    }

    /// How this very process ended, in the form of wait(2), as long as nobody has waited for it.
    pub(crate) fn zombie(self) -> Option<i32> {
        let is_it = |stat: &Stat| stat.start_time == self.start_time && stat.state == b'Z';
        Stat::read(self.pid)
            .filter(is_it)
            .and_then(|stat| stat.exit_code)
    }

    /// Whether this very process still runs. A zombie does not.
    pub(crate) fn is_alive(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| {
            stat.start_time == self.start_time && !matches!(stat.state, b'Z' | b'X')
        })
    }
}

/// Whether the process has executed a program since it was made.
pub(crate) fn has_executed(pid: Pid) -> bool {
    /// Of the kernel: forked, and has not executed anything yet.
    const PF_FORKNOEXEC: u32 = 0x40;
    Stat::read(pid.as_raw()).is_some_and(|stat| stat.flags & PF_FORKNOEXEC == 0)
}

struct Stat {
    state: u8,
    /// `PF_*` of the kernel.
    flags: u32,
    start_time: u64,
    /// In the form of wait(2); 0 for who may not trace the process.
    exit_code: Option<i32>,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let mut buffer = [0; 1024];
        let length = File::open(format!("/proc/{pid}/stat"))
            .ok()?
            .read(&mut buffer)
            .ok()?;
        Self::parse(&buffer[..length])
    }

    /// The name, in brackets, may have any byte in it: fields are counted from the last bracket.
    fn parse(stat: &[u8]) -> Option<Self> {
        let after_name = stat.iter().rposition(|&byte| byte == b')')? + 2;
        let mut fields = stat.get(after_name..)?.split(|&byte| byte == b' ');
        let state = *fields.next()?.first()?;
        let flags = str::from_utf8(fields.nth(5)?).ok()?.parse().ok()?;
        let start_time = str::from_utf8(fields.nth(12)?).ok()?.parse().ok()?;
        let exit_code = fields.nth(29).and_then(|code| str::from_utf8(code).ok());
        Some(Self {
            state,
            flags,
            start_time,
            exit_code: exit_code.and_then(|code| code.trim_end().parse().ok()),
        })
    }
}

/// The directory with all containers of one root.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// Names the directory. It need not exist.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ids of all containers, in order.
    ///
    /// # Errors
    /// The errno of reading the directory, `ENOENT` where there is none.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.path).call(|| format!("open({:?})", self.path))?;
        let mut ids: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|id| check_id(id).is_ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    fn open(&self) -> Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(AT_FDCWD, self.path.as_path(), flags, Mode::empty())
            .call(|| format!("open({:?}, O_DIRECTORY)", self.path))
    }

    /// Makes the directory where it is missing.
    fn make(&self) -> Result<OwnedFd> {
        match self.open() {
            Err(error) if error.errno() == Some(Errno::ENOENT) => {}
            other => return other,
        }
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
            .create(&self.path)
            .call(|| format!("mkdir({:?}, 0700)", self.path))?;
        self.open()
    }
}

/// Whether `id` can be a container's.
///
/// # Errors
/// `InvalidArgument` that says why not.
pub fn check_id(id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(Error::argument("container id cannot be empty"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if !id.bytes().all(allowed) || matches!(id, "." | "..") || id.len() > LONGEST_ID {
        return Err(Error::argument(format!(
            "invalid container ID format: {id:?}"
        )));
    }
    Ok(())
}

/// The directory of one container.
#[derive(Debug)]
pub(crate) struct Directory {
    root: OwnedFd,
    own: File,
    id: String,
}

/// How a verb holds a container against others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Not at all: it only looks.
    None,
    /// Alone.
    Exclusive,
}

impl Directory {
    /// Makes the directory of a new container, locked.
    ///
    /// # Errors
    /// `AlreadyExists` where there is one.
    pub(crate) fn make(root: &Root, id: &str) -> Result<Self> {
        check_id(id)?;
        let root = root.make()?;
        match mkdirat(&root, id, Mode::from_bits_truncate(0o711)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "container with given ID already exists",
                ));
            }
            Err(errno) => return Err(Error::os(format!("mkdirat({id:?}, 0711)"), errno)),
        }
        let directory = Self::open_in(root, id)?;
        directory.lock()?;
        Ok(directory)
    }

    /// Opens the directory of a container.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub(crate) fn open(root: &Root, id: &str, lock: Lock) -> Result<Self> {
        check_id(id)?;
        let not_found = || Error::new(ErrorKind::NotFound, "container does not exist");
        let missing = |error: Error| {
            if error.errno() == Some(Errno::ENOENT) {
                not_found()
            } else {
                error
            }
        };
        let root = root.open().map_err(missing)?;
        let directory = Self::open_in(root, id).map_err(missing)?;
        if lock == Lock::Exclusive {
            directory.lock()?;
            // Whoever held the lock may have deleted the container.
            let gone = std::os::unix::fs::MetadataExt::nlink(
                &directory.own.metadata().call(|| "fstat()")?,
            ) == 0;
            if gone {
                return Err(not_found());
            }
        }
        Ok(directory)
    }

    fn open_in(root: OwnedFd, id: &str) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let own = openat(&root, id, flags, Mode::empty())
            .call(|| format!("openat({id:?}, O_DIRECTORY)"))?;
        Ok(Self {
            root,
            own: own.into(),
            id: id.to_owned(),
        })
    }

    fn lock(&self) -> Result<()> {
        loop {
            match self.own.lock() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.call(|| "flock(LOCK_EX)"),
            }
        }
    }

    /// Lets other verbs at the container, though children may still have a copy of the descriptor.
    pub(crate) fn unlock(&self) -> Result<()> {
        self.own.unlock().call(|| "flock(LOCK_UN)")
    }

    /// Closes the child's copies of the descriptors: they lead to the host's files.
    pub(crate) fn close_in_child(&self) {
        let _ = nix::unistd::close(self.own.as_raw_fd());
        let _ = nix::unistd::close(self.root.as_raw_fd());
    }

    /// Keeps a copy of the configuration.
    pub(crate) fn write_config(&self, config: &[u8]) -> Result<()> {
        self.write(CONFIG, config)
    }

    /// The configuration as it was at `create`.
    pub(crate) fn spec(&self) -> Result<Spec> {
        Spec::from_json(&self.read(CONFIG)?)
    }

    pub(crate) fn write_record(&self, record: &Record) -> Result<()> {
        let json = serde_json::to_vec(record)
            .map_err(|error| Error::argument(format!("{RECORD}: {error}")))?;
        self.write(NEW_RECORD, &json)?;
        renameat(&self.own, NEW_RECORD, &self.own, RECORD)
            .call(|| format!("renameat({NEW_RECORD:?}, {RECORD:?})"))
    }

    /// What is on disk of the container; none where `create` did not come so far.
    pub(crate) fn record(&self) -> Result<Option<Record>> {
        let json = match self.read(RECORD) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(None),
            other => other?,
        };
        let record = serde_json::from_slice(&json);
        record.map(Some).map_err(|error| {
            Error::argument(format!("{RECORD} of container {:?}: {error}", self.id))
        })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let flags = OFlag::O_WRONLY
            | OFlag::O_CREAT
            | OFlag::O_TRUNC
            | OFlag::O_NOFOLLOW
            | OFlag::O_CLOEXEC;
        let file = openat(&self.own, name, flags, Mode::from_bits_truncate(0o600))
            .call(|| format!("openat({name:?}, O_CREAT)"))?;
        File::from(file)
            .write_all(bytes)
            .call(|| format!("write({name:?})"))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file =
            openat(&self.own, name, flags, Mode::empty()).call(|| format!("openat({name:?})"))?;
        read_limited(file.into(), MAX_CONFIG_BYTES).context(|| name)
    }

    /// Makes the FIFO in which the container's process waits, opened with `O_PATH`. It belongs to `owner`, the
    /// container's root on the host. Who opens it for reading lets the process go on.
    pub(crate) fn make_fifo(&self, owner: (u32, u32)) -> Result<OwnedFd> {
        // The container's user opens it for writing, whoever that is.
        let mode = Mode::from_bits_truncate(0o622);
        let mask = umask(Mode::empty());
        let made = mknodat(&self.own, FIFO, SFlag::S_IFIFO, mode, 0);
        umask(mask);
        made.call(|| format!("mknodat({FIFO:?}, S_IFIFO|0622)"))?;
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        if geteuid().is_root() && owner != (0, 0) {
            fchownat(
                &self.own,
                FIFO,
                Some(uid),
                Some(gid),
                AtFlags::AT_SYMLINK_NOFOLLOW,
            )
            .call(|| format!("fchownat({FIFO:?}, {uid}, {gid})"))?;
        }
        openat(
            &self.own,
            FIFO,
            OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .call(|| format!("openat({FIFO:?}, O_PATH)"))
    }

    /// Opens the FIFO for reading, which lets the container's process go on.
    pub(crate) fn open_fifo(&self) -> Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.own, FIFO, flags, Mode::empty()).call(|| format!("openat({FIFO:?}, O_RDONLY)"))
    }

    pub(crate) fn remove_fifo(&self) -> Result<()> {
        match unlinkat(&self.own, FIFO, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) | Ok(()) => Ok(()),
            Err(errno) => Err(Error::os(format!("unlinkat({FIFO:?})"), errno)),
        }
    }

    fn has_fifo(&self) -> bool {
        faccessat(
            &self.own,
            FIFO,
            nix::unistd::AccessFlags::F_OK,
            AtFlags::empty(),
        )
        .is_ok()
    }

    /// Makes an empty directory for CRIU to mount the root at, and gives its path.
    pub(crate) fn make_criu_root(&self) -> Result<PathBuf> {
        mkdirat(&self.own, CRIU_ROOT, Mode::from_bits_truncate(0o755))
            .call(|| format!("mkdirat({CRIU_ROOT:?}, 0755)"))?;
        Ok(crate::bundle::path_of(self.own.as_fd())?.join(CRIU_ROOT))
    }

    pub(crate) fn remove_criu_root(&self) -> Result<()> {
        match unlinkat(&self.own, CRIU_ROOT, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::os(format!("rmdir({CRIU_ROOT:?})"), errno)),
        }
    }

    /// Where the container's socket of sd_notify(3) is on the host.
    pub(crate) fn notify_path(&self) -> Result<PathBuf> {
        Ok(crate::bundle::path_of(self.own.as_fd())?.join(NOTIFY))
    }

    /// Removes the container from the disk.
    pub(crate) fn remove(&self) -> Result<()> {
        self.remove_notify()?;
        self.remove_criu_root()?;
        // The record last: as long as it is there the container can be found and deleted.
        for name in [FIFO, CONFIG, NEW_RECORD, RECORD] {
            match unlinkat(&self.own, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(Error::os(format!("unlinkat({name:?})"), errno)),
            }
        }
        match unlinkat(&self.root, self.id.as_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::os(format!("rmdir({:?})", self.id), errno)),
        }
    }

    /// Where the life of the container of `record` has come to.
    ///
    /// # Errors
    /// Those of reading the freezer's state.
    pub(crate) fn status(&self, record: &Record) -> Result<Status> {
        let Some(init) = record.init else {
            return Ok(Status::Creating);
        };
        if !init.is_alive() {
            return Ok(Status::Stopped);
        }
        if record.cgroup.is_frozen()? {
            return Ok(Status::Paused);
        }
        Ok(if self.has_fifo() {
            Status::Created
        } else {
            Status::Running
        })
    }
}

impl Record {
    /// The time of now, for `created`.
    pub(crate) fn now() -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or_default()
    }

    /// What hooks are told.
    pub(crate) fn hook_state(&self, status: Status) -> HookState {
        HookState {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            status,
            pid: if status == Status::Stopped {
                0
            } else {
                self.init.map_or(0, |init| init.pid)
            },
            bundle: self.bundle.clone(),
            annotations: self.annotations.clone(),
        }
    }

    /// What callers are told.
    pub(crate) fn state(&self, status: Status) -> State {
        let pid = match status {
            Status::Stopped | Status::Creating => 0,
            _ => self.init.map_or(0, |init| init.pid),
        };
        State {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            status,
            pid,
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            created: UNIX_EPOCH + Duration::from_nanos(self.created),
            annotations: self.annotations.clone(),
            owner: self.owner,
        }
    }
}

/// Any bytes as `state.json`, and as `/proc/PID/stat`.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Some(stat) = Stat::parse(bytes) {
        let number = stat.start_time.to_string();
        let is_written = bytes
            .windows(number.len())
            .any(|part| part == number.as_bytes());
        // Zeros and a sign may stand before it.
        assert!(is_written || number == "0", "{number}");
    }
    let Ok(record) = serde_json::from_slice::<Record>(bytes) else {
        return;
    };
    let written = serde_json::to_value(&record);
    let again = written.as_ref().ok().map(Record::deserialize);
    let again = again
        .and_then(std::result::Result::ok)
        .map(serde_json::to_value);
    assert_eq!(
        again.and_then(std::result::Result::ok),
        written.ok(),
        "{record:?}"
    );
    let state = record.state(Status::Stopped);
    assert_eq!((state.pid, &state.id), (0, &record.id));
}

#[cfg(test)]
mod tests;
