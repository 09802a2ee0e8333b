//! Keeping the host's own program out of containers' reach (CVE-2019-5736).
//!
//! A process of a container can reach the program of any process that is still the runtime's through `/proc/PID/exe`.
//! So a process that goes into a container first executes a view of its own program that cannot be written: a detached
//! read-only clone of the file's mount, or a sealed copy in memory where mounts cannot be cloned.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open, readlink};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::error::{Call, Context, Error, Result};
use crate::kernel::exec::{CStrings, execveat};
use crate::kernel::mount::{self, Attributes, Change, Scope};

const SELF: &str = "/proc/self/exe";

/// Returns where this process already runs from a sealed view of its program; otherwise executes one with the same
/// arguments and environment, and returns only an error.
///
/// # Errors
/// The errno of opening, cloning or executing the program.
pub fn ensure_sealed() -> Result<()> {
    if is_sealed()? {
        return Ok(());
    }
    let program = sealed_program()?;
    let strings = |texts: &mut dyn Iterator<Item = Vec<u8>>| {
        CStrings::new(texts.filter_map(|text| CString::new(text).ok()).collect())
    };
    let args = strings(&mut std::env::args_os().map(OsStringExt::into_vec));
    let env = strings(
        &mut std::env::vars_os()
            .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()),
    );
    let executed: nix::Result<Infallible> = execveat(program.as_fd(), &args, &env);
    match executed {
        Err(errno) => Err(Error::os("execveat(own program, AT_EMPTY_PATH)", errno)),
    }
}

/// A descriptor of this program as nobody can write it.
///
/// # Errors
/// The errno of opening or copying the program.
pub fn sealed_program() -> Result<OwnedFd> {
    match read_only(&open_self()?) {
        Ok(program) => Ok(program),
        // Not privileged, or a sandbox or file system that will not.
        Err(_) => copy().context(|| "sealed copy of the own program"),
    }
}

/// A detached mount has no path but that of its own root, which here is the file itself; and a sealed copy says so.
fn is_sealed() -> Result<bool> {
    let path = readlink(SELF).call(|| format!("readlink({SELF:?})"))?;
    if path == "/" {
        let program = open_self()?;
        let flags = fstatvfs(&program)
            .call(|| format!("fstatvfs({SELF:?})"))?
            .flags();
        return Ok(flags.contains(FsFlags::ST_RDONLY));
    }
    if path.as_bytes().starts_with(b"/memfd:") {
        let program = open(SELF, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .call(|| format!("open({SELF:?})"))?;
        let seals = fcntl(&program, FcntlArg::F_GET_SEALS).call(|| "fcntl(F_GET_SEALS)")?;
        return Ok(SealFlag::from_bits_truncate(seals).contains(SEALS));
    }
    Ok(false)
}

const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

fn open_self() -> Result<OwnedFd> {
    open_program(SELF.as_ref())
}

fn open_program(path: &Path) -> Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .call(|| format!("open({path:?}, O_PATH)"))
}

/// A view of the program at `path` that cannot be written, for all who are to run it: [`ensure_sealed`] then has nothing
/// to do in them. It is executed as `/proc/self/fd/N`.
///
/// # Errors
/// The errno of opening it or cloning its mount, which needs privilege.
pub fn view_of(path: &Path) -> Result<OwnedFd> {
    read_only(&open_program(path)?)
}

fn read_only(file: &OwnedFd) -> Result<OwnedFd> {
    let program = mount::clone_of(file.as_fd(), Scope::One).call(|| "open_tree()")?;
    let change = Change {
        set: Attributes::RDONLY,
        clear: Attributes::default(),
    };
    mount::set_attributes(program.as_fd(), Scope::One, change)
        .call(|| "mount_setattr(MOUNT_ATTR_RDONLY)")?;
    Ok(program)
}

fn copy() -> Result<OwnedFd> {
    let mut program = File::open(SELF).call(|| format!("open({SELF:?})"))?;
    sealed_memory(c"ocirun", &mut program)
}

/// A descriptor of memory with the bytes of `program`, which can be executed and never written again.
///
/// # Errors
/// The errno of making or filling it, `EACCES` where the host forbids programs in memory.
pub(crate) fn sealed_memory(name: &CStr, program: &mut impl Read) -> Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let copy = match memfd_create(name, flags | MFdFlags::from_bits_retain(libc::MFD_EXEC)) {
        // Below 6.3 there is no such flag, and all are executable.
        Err(Errno::EINVAL) => memfd_create(name, flags),
        other => other,
    };
    let mut copy = File::from(copy.call(|| "memfd_create(MFD_EXEC)")?);
    std::io::copy(program, &mut copy).call(|| "write(memfd)")?;
    copy.seek(SeekFrom::Start(0)).call(|| "lseek()")?;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(SEALS)).call(|| "fcntl(F_ADD_SEALS)")?;
    // Executed through a descriptor that cannot write, for what is open for writing cannot be executed.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy));
    open(
        path.as_str(),
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .call(|| format!("open({path:?})"))
}
