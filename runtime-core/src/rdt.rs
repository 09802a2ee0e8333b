//! Intel Resource Director Technology: shares of caches and of memory bandwidth, by groups of the resctrl file system.
//!
//! A group is a directory right below the mount, which the kernel fills with files: a process joins by `tasks`, and
//! `schemata` says what all of them may use. A monitoring group below it counts what its own processes use. The mount is
//! looked for only where a configuration asks for a group.
//!
//! Kernel: 4.10, monitoring 4.14. See its document on resctrl, and config-linux.md "IntelRdt".

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statfs::{FsType, statfs};
use nix::unistd::{AccessFlags, Pid, UnlinkatFlags, faccessat, unlinkat};
use serde::{Deserialize, Serialize};

use crate::error::{Call, Context, Error, Result};
use crate::spec::scheduling::IntelRdt;

/// Where the kernel has a directory for the mount, if the hardware can do it.
const USUAL: &str = "/sys/fs/resctrl";
/// `RDTGROUP_SUPER_MAGIC` of the kernel.
const MAGIC: FsType = FsType(0x0765_5821);
/// Most bytes of a file that are read.
const MOST: u64 = 1 << 16;

/// What a configuration asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Name of a group that others may share; the container's own, by its id, where there is none.
    class: Option<String>,
    cache: Option<String>,
    bandwidth: Option<String>,
    /// Lines that are written as they are, after the two.
    lines: Vec<String>,
    has_monitor: bool,
}

/// The group of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    mount: PathBuf,
    /// Its directory below the mount; `.` for the one that all processes begin in.
    name: String,
    /// Its monitoring group, which goes with the container.
    monitor: Option<String>,
    /// Whether the group goes with the container too.
    is_own: bool,
}

impl Request {
    /// Resolves `linux.intelRdt`.
    ///
    /// # Errors
    /// `InvalidSpec` with a pointer below `/linux/intelRdt`.
    pub(crate) fn compile(written: Option<&IntelRdt>) -> Result<Option<Self>> {
        let Some(written) = written else {
            return Ok(None);
        };
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let class = some(&written.clos_id);
        if let Some(class) = &class
            && (matches!(class.as_str(), "." | "..")
                || class.len() > 1 && class.contains('/')
                || class.contains('\0'))
        {
            let text = format!("invalid intelRdt.ClosID {class:?}");
            return Err(Error::invalid_spec("/linux/intelRdt/closID", &text));
        }
        let bandwidth = some(&written.mem_bw_schema);
        if let Some(line) = &bandwidth {
            check_line(line, "/linux/intelRdt/memBwSchema")?;
            if !line.starts_with("MB:") {
                let text = format!("{line:?} does not begin with \"MB:\"");
                return Err(Error::invalid_spec("/linux/intelRdt/memBwSchema", &text));
            }
        }
        let lines = written.schemata.clone().unwrap_or_default();
        for (index, line) in lines.iter().enumerate() {
            check_line(line, &format!("/linux/intelRdt/schemata/{index}"))?;
        }
        Ok(Some(Self {
            class,
            cache: some(&written.l3_cache_schema),
            bandwidth,
            lines,
            has_monitor: written.enable_monitoring,
        }))
    }

    /// What is written to `schemata`, one text after the other: the kernel takes no share twice in one write, and the
    /// lines may say otherwise than the two before them.
    fn schemata(&self) -> Vec<String> {
        let two = text_of([&self.cache, &self.bandwidth].into_iter().flatten());
        let lines = text_of(self.lines.iter().filter(|line| !line.is_empty()));
        let texts = [two, lines].into_iter();
        texts.filter(|text| !text.is_empty()).collect()
    }

    /// Refuses what this machine's resctrl, mounted at `root`, has no part for.
    fn check_parts(&self, root: BorrowedFd<'_>) -> Result<()> {
        let cache = self.cache.as_ref().map(|_| Part::Cache);
        let bandwidth = self.bandwidth.as_ref().map(|_| Part::Bandwidth);
        for part in [cache, bandwidth].into_iter().flatten() {
            if !part.is_in(root) {
                let (name, feature) = match part {
                    Part::Cache => ("l3CacheSchema", "CAT"),
                    Part::Bandwidth => ("memBwSchema", "MBA"),
                };
                return Err(Error::unsupported(format!(
                    "intelRdt.{name} is specified in config, but Intel RDT/{feature} is not enabled"
                )));
            }
        }
        Ok(())
    }
}

/// What resctrl may have or lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Cache,
    Bandwidth,
}

impl Part {
    fn is_in(self, root: BorrowedFd<'_>) -> bool {
        let names: &[&str] = match self {
            // The latter where code and data have shares of their own.
            Self::Cache => &["info/L3", "info/L3DATA"],
            Self::Bandwidth => &["info/MB"],
        };
        names.iter().any(|name| exists(root, name))
    }
}

impl Group {
    /// Where the group of the container `id` is to be. Makes none.
    ///
    /// # Errors
    /// `Unsupported` where no resctrl is mounted, or one that cannot do what is asked. Callers know the words.
    pub(crate) fn locate(request: &Request, id: &str) -> Result<Self> {
        let located = || -> Result<Self> {
            let Some(mount) = find_mount()? else {
                return Err(Error::unsupported(
                    "intelRdt is specified in config, but Intel RDT is not enabled",
                ));
            };
            let root = open_root(&mount)?;
            request.check_parts(root.as_fd())?;
            Ok(Self::of(root.as_fd(), mount, request, id))
        };
        located().context(|| "/linux/intelRdt")
    }

    fn of(root: BorrowedFd<'_>, mount: PathBuf, request: &Request, id: &str) -> Self {
        let name = match request.class.as_deref() {
            Some("/") => ".",
            Some(class) => class,
            None => id,
        };
        Self {
            mount,
            name: name.to_owned(),
            monitor: request.has_monitor.then(|| id.to_owned()),
            is_own: request.class.is_none() && !exists(root, id),
        }
    }

    /// Makes what is missing of the group, says what its processes may use, and puts `process` into it.
    ///
    /// # Errors
    /// `InvalidSpec` where the group is there and has other shares; the errno of the calls.
    pub(crate) fn enter(&self, request: &Request, process: Pid) -> Result<()> {
        let entered = || {
            let root = open_root(&self.mount)?;
            let entered = self.enter_below(root.as_fd(), request, process);
            entered.map_err(|error| with_status(root.as_fd(), error))
        };
        entered().context(|| "unable to apply Intel RDT configuration")
    }

    fn enter_below(&self, root: BorrowedFd<'_>, request: &Request, process: Pid) -> Result<()> {
        let is_new = self.make(root, request)?;
        let entered = || {
            let directory = open_directory(root, &self.name)?;
            if !is_new && request.class.is_some() {
                check_shares(root, directory.as_fd(), request)?;
            }
            for text in request.schemata() {
                write_file(directory.as_fd(), "schemata", &text)?;
            }
            if let Some(monitor) = self.monitor_path() {
                make_directory(directory.as_fd(), &monitor)?;
            }
            self.add_below(root, process)
        };
        entered().inspect_err(|_| {
            // Others may come to share it, but not what was never of use.
            if is_new {
                drop(self.remove_below(root));
                let _ = unlinkat(root, self.name.as_str(), UnlinkatFlags::RemoveDir);
            }
        })
    }

    /// Makes the directory, and gives whether it was missing. A shared one that is given no shares must be there.
    fn make(&self, root: BorrowedFd<'_>, request: &Request) -> Result<bool> {
        if request.class.is_some() && request.schemata().is_empty() {
            let there = open_directory(root, &self.name).map(|_| false);
            return there.context(|| {
                "clos dir not accessible (must be pre-created when schemata, l3CacheSchema and memBwSchema are empty)"
            });
        }
        make_directory(root, &self.name)
    }

    /// Puts `process` into the group, where there still is one.
    ///
    /// # Errors
    /// The errno of the calls.
    pub(crate) fn add(&self, process: Pid) -> Result<()> {
        let added = || match open_root(&self.mount) {
            Ok(root) if exists(root.as_fd(), &self.name) => self.add_below(root.as_fd(), process),
            // What the kernel does to the members of a group that is removed.
            _ => Ok(()),
        };
        added().context(|| format!("error adding pid {process} to Intel RDT"))
    }

    fn add_below(&self, root: BorrowedFd<'_>, process: Pid) -> Result<()> {
        let directory = open_directory(root, &self.name)?;
        let pid = process.to_string();
        write_file(directory.as_fd(), "tasks", &pid)?;
        match self.monitor_path() {
            Some(monitor) => write_file(directory.as_fd(), &format!("{monitor}/tasks"), &pid),
            None => Ok(()),
        }
    }

    /// Changes what the group's processes may use.
    ///
    /// # Errors
    /// `Unsupported` where resctrl has no such part; the errno of the calls.
    pub(crate) fn change(&self, cache: Option<&str>, bandwidth: Option<&str>) -> Result<()> {
        let root = open_root(&self.mount)?;
        let text = text_of([cache, bandwidth].into_iter().flatten());
        let directory = open_directory(root.as_fd(), &self.name)?;
        write_file(directory.as_fd(), "schemata", &text)
            .map_err(|error| with_status(root.as_fd(), error))
    }

    /// Removes what goes with the container.
    ///
    /// # Errors
    /// The errno of the calls.
    pub(crate) fn remove(&self) -> Result<()> {
        let removed = match open_root(&self.mount) {
            Ok(root) => self.remove_below(root.as_fd()),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error),
        };
        removed.context(|| "unable to remove container's IntelRDT group")
    }

    fn remove_below(&self, root: BorrowedFd<'_>) -> Result<()> {
        let monitor = self.monitor_path();
        let monitor = monitor.map(|monitor| format!("{}/{monitor}", self.name));
        for path in monitor.iter().chain(self.is_own.then_some(&self.name)) {
            match unlinkat(root, path.as_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(Error::os(format!("rmdir({path:?})"), errno)),
            }
        }
        Ok(())
    }

    /// Of the monitoring group, below the group.
    fn monitor_path(&self) -> Option<String> {
        let monitor = self.monitor.as_ref();
        monitor.map(|name| format!("mon_groups/{name}"))
    }
}

/// Refuses an update that nothing here can take, in the words that callers know.
pub(crate) fn check_update(cache: Option<&str>, bandwidth: Option<&str>) -> Result<()> {
    let root = find_mount()?.map(|mount| open_root(&mount)).transpose()?;
    let has = |part: Part| root.as_ref().is_some_and(|root| part.is_in(root.as_fd()));
    let refused = if cache.is_some() && !has(Part::Cache) {
        "Intel RDT/CAT: l3 cache schema is not enabled"
    } else if bandwidth.is_some() && !has(Part::Bandwidth) {
        "Intel RDT/MBA: memory bandwidth schema is not enabled"
    } else {
        return Ok(());
    };
    Err(Error::unsupported(refused))
}

fn text_of(lines: impl Iterator<Item = impl AsRef<str>>) -> String {
    lines.fold(String::new(), |text, line| text + line.as_ref() + "\n")
}

fn check_line(line: &str, pointer: &str) -> Result<()> {
    if line.contains('\n') {
        return Err(Error::invalid_spec(pointer, "has more than one line"));
    }
    Ok(())
}

/// Refuses a group whose shares are not those of the configuration: others were promised them.
fn check_shares(root: BorrowedFd<'_>, group: BorrowedFd<'_>, request: &Request) -> Result<()> {
    if request.cache.is_none() && request.bandwidth.is_none() {
        return Ok(());
    }
    let present = read_file(group, "schemata")?;
    let granularity = read_file(root, "info/MB/bandwidth_gran").unwrap_or_default();
    let granularity = granularity.trim().parse().unwrap_or(1);
    for (wanted, name) in [
        (&request.cache, "l3CacheSchema"),
        (&request.bandwidth, "memBwSchema"),
    ] {
        if let Some(wanted) = wanted
            && !agrees(wanted, &present, granularity)
        {
            let text = format!("{wanted:?} does not match the group's schemata {present:?}");
            return Err(Error::invalid_spec(
                &format!("/linux/intelRdt/{name}"),
                &text,
            ));
        }
    }
    Ok(())
}

/// Whether all that the lines of `wanted` say is so in `present`, where the kernel has rounded bandwidth up to a multiple
/// of `granularity`.
fn agrees(wanted: &str, present: &str, granularity: u64) -> bool {
    let (Some(wanted), Some(present)) = (shares(wanted), shares(present)) else {
        return false;
    };
    wanted.iter().all(|share| {
        let rounded = if share.resource == "MB" {
            share.value.next_multiple_of(granularity.max(1))
        } else {
            share.value
        };
        let is_it = |other: &Share<'_>| {
            (other.resource, other.domain) == (share.resource, share.domain)
                && (other.value == share.value || other.value == rounded)
        };
        present.iter().any(is_it)
    })
}

/// What one line grants in one domain, which is a cache by its number.
#[derive(Debug, PartialEq, Eq)]
struct Share<'a> {
    resource: &'a str,
    domain: u64,
    value: u64,
}

/// Parses lines such as `L3:0=ff;1=f0`: masks are hexadecimal, bandwidth is decimal.
fn shares(text: &str) -> Option<Vec<Share<'_>>> {
    let mut all = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (resource, domains) = line.split_once(':')?;
        let resource = resource.trim();
        let radix = if resource == "MB" { 10 } else { 16 };
        for share in domains.split(';').filter(|share| !share.trim().is_empty()) {
            let (domain, value) = share.split_once('=')?;
            all.push(Share {
                resource,
                domain: domain.trim().parse().ok()?,
                value: u64::from_str_radix(value.trim(), radix).ok()?,
            });
        }
    }
    Some(all)
}

/// Where resctrl is mounted, if it is.
fn find_mount() -> Result<Option<PathBuf>> {
    match statfs(USUAL) {
        Err(Errno::ENOENT) => Ok(None),
        Ok(found) if found.filesystem_type() == MAGIC => Ok(Some(PathBuf::from(USUAL))),
        // Supported, and mounted elsewhere or not at all.
        _ => {
            let table = std::fs::read("/proc/self/mountinfo");
            Ok(mount_in(&table.call(|| "read(\"/proc/self/mountinfo\")")?))
        }
    }
}

/// The first mount of resctrl in a table, see proc_pid_mountinfo(5).
fn mount_in(table: &[u8]) -> Option<PathBuf> {
    table.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let path = fields.nth(4)?;
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        (kind == b"resctrl").then(|| unescaped(path))
    })
}

/// A path of the table, where bytes that would end a field are written as `\040`.
fn unescaped(path: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let octal = after
            .get(..3)
            .and_then(|digits| str::from_utf8(digits).ok());
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

fn open_root(mount: &Path) -> Result<OwnedFd> {
    open(mount, DIRECTORY, Mode::empty()).call(|| format!("open({mount:?}, O_DIRECTORY)"))
}

fn open_directory(at: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    openat(at, name, DIRECTORY, Mode::empty()).call(|| format!("openat({name:?}, O_DIRECTORY)"))
}

/// Gives whether it was missing.
fn make_directory(at: BorrowedFd<'_>, name: &str) -> Result<bool> {
    match mkdirat(at, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(Error::os(format!("mkdirat({name:?}, 0755)"), errno)),
    }
}

fn exists(at: BorrowedFd<'_>, name: &str) -> bool {
    faccessat(at, name, AccessFlags::F_OK, AtFlags::empty()).is_ok()
}

fn read_file(at: BorrowedFd<'_>, name: &str) -> Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = openat(at, name, flags, Mode::empty()).call(|| format!("openat({name:?})"))?;
    let mut text = String::new();
    let read = File::from(file).take(MOST).read_to_string(&mut text);
    read.call(|| format!("read({name:?})"))?;
    Ok(text)
}

/// Writes in one call, as the kernel wants it.
fn write_file(at: BorrowedFd<'_>, name: &str, text: &str) -> Result<()> {
    // As a shell opens it. The kernel has made its files, and lets nobody make others.
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o600);
    let file = openat(at, name, flags, mode).call(|| format!("openat({name:?}, O_WRONLY)"))?;
    let written = File::from(file).write_all(text.as_bytes());
    written.call(|| format!("write({name:?}, {text:?})"))
}

/// The error, with what the kernel says of it, if it does.
fn with_status(root: BorrowedFd<'_>, error: Error) -> Error {
    let status = read_file(root, "info/last_cmd_status").unwrap_or_default();
    match status.trim() {
        "" | "ok" => error,
        status => error.also(&format!("last_cmd_status: {}", status.escape_debug())),
    }
}

#[cfg(test)]
mod tests;
