//! What CRIU is asked for, in the words of its `criu_opts`.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use super::wire::Message;
use crate::error::{Call, Result};

/// The numbers of fields in `criu_opts` (rpc.proto), under the names they have there. The switches are
/// [`Switch`]'s.
pub(crate) mod field {
    pub(crate) const IMAGES_DIR_FD: u32 = 1;
    pub(crate) const PID: u32 = 2;
    pub(crate) const EVASIVE_DEVICES: u32 = 6;
    pub(crate) const LOG_LEVEL: u32 = 9;
    pub(crate) const LOG_FILE: u32 = 10;
    /// The page server.
    pub(crate) const PS: u32 = 11;
    pub(crate) const NOTIFY_SCRIPTS: u32 = 12;
    pub(crate) const ROOT: u32 = 13;
    pub(crate) const PARENT_IMG: u32 = 14;
    pub(crate) const TRACK_MEM: u32 = 15;
    pub(crate) const WORK_DIR_FD: u32 = 17;
    pub(crate) const EXT_MNT: u32 = 23;
    pub(crate) const MANAGE_CGROUPS: u32 = 24;
    pub(crate) const CG_ROOT: u32 = 25;
    /// Restored processes are siblings of CRIU.
    pub(crate) const RST_SIBLING: u32 = 26;
    pub(crate) const INHERIT_FD: u32 = 27;
    pub(crate) const MANAGE_CGROUPS_MODE: u32 = 34;
    pub(crate) const EXTERNAL: u32 = 37;
    pub(crate) const EMPTY_NS: u32 = 38;
    pub(crate) const JOIN_NS: u32 = 39;
    pub(crate) const FREEZE_CGROUP: u32 = 44;
    /// The master of a terminal that only the container had is sent to us.
    pub(crate) const ORPHAN_PTS_MASTER: u32 = 50;
    pub(crate) const CONFIG_FILE: u32 = 51;
    pub(crate) const LSM_PROFILE: u32 = 53;
    pub(crate) const LSM_MOUNT_CONTEXT: u32 = 63;
}

/// How CRIU shall go about a container: what its command line has for dump and restore alike.
#[derive(Debug)]
pub struct CriuOptions {
    /// Directory of the images.
    pub images: PathBuf,
    /// Directory of logs, statistics and the like, if not that of the images.
    pub work: Option<PathBuf>,
    /// What is on.
    pub switches: Vec<Switch>,
    /// What becomes of cgroups.
    pub cgroups: CgroupsMode,
    /// Whether the network namespace is to be made, and nothing in it.
    pub network: Network,
}

/// What can be switched on: the number of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// The processes go on after they were written.
    LeaveRunning = 3,
    /// Unix sockets with a peer outside.
    ExtUnixSk = 4,
    /// Connections of TCP.
    TcpEstablished = 5,
    /// Processes that belong to a session outside, or have its terminal.
    ShellJob = 7,
    /// Locks of files.
    FileLocks = 8,
    /// Pages that a later image has too are cut out of the earlier one.
    AutoDedup = 16,
    /// Names for files that were deleted.
    LinkRemap = 18,
    /// Connections of TCP on their way are left out.
    TcpSkipInFlight = 46,
    /// Memory is fetched when it is used.
    LazyPages = 48,
}

impl Switch {
    /// All, by the flags that runc has for them.
    pub const ALL: [(&'static str, Self); 9] = [
        ("leave-running", Self::LeaveRunning),
        ("ext-unix-sk", Self::ExtUnixSk),
        ("tcp-established", Self::TcpEstablished),
        ("shell-job", Self::ShellJob),
        ("file-locks", Self::FileLocks),
        ("auto-dedup", Self::AutoDedup),
        ("link-remap", Self::LinkRemap),
        ("tcp-skip-in-flight", Self::TcpSkipInFlight),
        ("lazy-pages", Self::LazyPages),
    ];
}

/// What becomes of cgroups, as CRIU numbers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupsMode {
    /// They are not looked at.
    Ignore = 0,
    /// Properties of those that CRIU makes are restored.
    Soft = 3,
    /// All are restored.
    Full = 4,
    /// All are restored, and none may be there before.
    Strict = 5,
    /// CRIU's own choice, which is soft.
    #[default]
    Default = 6,
}

/// What becomes of the network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// It is written and restored with all that is in it.
    #[default]
    Whole,
    /// It is made empty: the caller sets it up.
    Empty,
}

/// Where the configuration file of CRIU is that runc has it read.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";
/// The most talkative level of its log.
const LOG_ALL: u64 = 4;
/// Which configuration file it shall read instead; empty for none.
const CONFIG_ANNOTATION: &str = "org.criu.config";

impl CriuOptions {
    /// The fields of `criu_opts` for these, without the directories; `log` is a name in
    /// [`CriuOptions::log_directory`].
    pub(crate) fn message(&self, log: &str, annotations: &BTreeMap<String, String>) -> Message {
        let mut opts = Message::default();
        for switch in &self.switches {
            opts.bool(*switch as u32, true);
        }
        opts.number(field::LOG_LEVEL, LOG_ALL);
        opts.text(field::LOG_FILE, log);
        opts.bool(field::NOTIFY_SCRIPTS, true);
        opts.bool(field::MANAGE_CGROUPS, true);
        opts.number(field::MANAGE_CGROUPS_MODE, self.cgroups as u64);
        if self.network == Network::Empty {
            opts.number(field::EMPTY_NS, libc::CLONE_NEWNET as u64);
        }
        opts.bool(field::ORPHAN_PTS_MASTER, true);
        let config = annotations
            .get(CONFIG_ANNOTATION)
            .map_or(CONFIG_FILE, String::as_str);
        if !config.is_empty() {
            opts.text(field::CONFIG_FILE, config);
        }
        opts
    }

    pub(crate) fn is_on(&self, switch: Switch) -> bool {
        self.switches.contains(&switch)
    }

    /// The images' directory, and that for work if it is another, which is made if it is not there.
    pub(crate) fn paths(&self) -> Result<Vec<CString>> {
        if let Some(work) = &self.work {
            make(work)?;
        }
        let all = [Some(&self.images), self.work.as_ref()];
        let path = |path: &PathBuf| CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        Ok(all.into_iter().flatten().map(path).collect())
    }

    pub(crate) fn log_directory(&self) -> &Path {
        self.work.as_deref().unwrap_or(&self.images)
    }
}

/// The directories, opened: CRIU finds them by the numbers of their descriptors here.
#[derive(Debug)]
pub(crate) struct Directories(Vec<OwnedFd>);

impl Directories {
    /// Opens those at `paths`, which is in the order of [`CriuOptions::paths`].
    pub(crate) fn open(paths: &[CString]) -> Result<Self> {
        let all = paths
            .iter()
            .map(|path| open_directory(path).call(|| format!("open({path:?}, O_DIRECTORY)")));
        Ok(Self(all.collect::<Result<_>>()?))
    }

    /// Those that were opened elsewhere.
    pub(crate) fn of(opened: Vec<OwnedFd>) -> Self {
        Self(opened)
    }

    pub(crate) fn describe(&self, opts: &mut Message) {
        for (place, directory) in [field::IMAGES_DIR_FD, field::WORK_DIR_FD]
            .into_iter()
            .zip(&self.0)
        {
            let number = u64::try_from(directory.as_raw_fd()).unwrap_or_default();
            opts.number(place, number);
        }
    }
}

/// Opens the directory at `path`, where it may also be said in a child.
pub(super) fn open_directory(path: &CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, path, flags, Mode::empty())
}

/// Makes a directory for this user alone, if it is not there.
pub(crate) fn make(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.call(|| format!("mkdir({path:?}, 0700)"))
}

/// A mount that is not CRIU's to make: `outside` is where it is found when it is restored.
pub(crate) fn external_mount(opts: &mut Message, inside: &[u8], outside: &[u8]) {
    let mut map = Message::default();
    map.text(1, inside);
    map.text(2, outside);
    opts.message(field::EXT_MNT, &map);
}

/// A descriptor of CRIU's that takes the place of what is called `key` in the images.
pub(crate) fn inherit(opts: &mut Message, key: &str, fd: RawFd) {
    let mut inherited = Message::default();
    inherited.text(1, key);
    inherited.number(2, u64::try_from(fd).unwrap_or_default());
    opts.message(field::INHERIT_FD, &inherited);
}

#[cfg(test)]
mod tests {
    use super::super::wire::fields;
    use super::*;

    fn message(options: &CriuOptions, annotation: Option<&str>) -> Vec<(u32, String)> {
        let annotations = annotation
            .map(|file| (CONFIG_ANNOTATION.to_owned(), file.to_owned()))
            .into_iter()
            .collect();
        let opts = options.message("dump.log", &annotations);
        fields(opts.bytes())
            .map(|(field, value)| match value {
                super::super::wire::Value::Number(number) => (field, number.to_string()),
                bytes @ super::super::wire::Value::Bytes(_) => (field, bytes.text()),
            })
            .collect()
    }

    #[test]
    fn fields_of_options() {
        let mut options = CriuOptions {
            images: "/".into(),
            work: None,
            switches: vec![Switch::TcpEstablished, Switch::LazyPages],
            cgroups: CgroupsMode::Strict,
            network: Network::Empty,
        };
        let has = |all: &[(u32, String)], field: u32, value: &str| {
            all.contains(&(field, value.to_owned()))
        };
        let all = message(&options, None);
        for (field, value) in [
            (5, "1"),
            (48, "1"),
            (10, "dump.log"),
            (34, "5"),
            (38, "1073741824"),
            (51, CONFIG_FILE),
        ] {
            assert!(has(&all, field, value), "{field} in {all:?}");
        }
        assert!(
            !all.iter()
                .any(|(field, _)| matches!(field, 3 | 4 | 7 | 8 | 17))
        );
        options.network = Network::Whole;
        let all = message(&options, Some(""));
        assert!(
            !all.iter().any(|(field, _)| matches!(field, 38 | 51)),
            "{all:?}"
        );
        assert!(has(&message(&options, Some("/x.conf")), 51, "/x.conf"));
    }
}
