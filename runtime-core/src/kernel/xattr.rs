//! Extended attributes of open files. See xattr(7), flistxattr(2), fgetxattr(2), fsetxattr(2).

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`: no list of names and no value is longer.
const LARGEST: usize = 1 << 16;

/// The names of the attributes of `file`; none where its file system has no attributes.
///
/// # Errors
/// The errno of flistxattr(2).
pub fn names(file: BorrowedFd<'_>) -> nix::Result<Vec<CString>> {
    // Most files have none.
    // SAFETY: with a size of 0 the call writes nothing.
    let length = unsafe { libc::flistxattr(file.as_raw_fd(), std::ptr::null_mut(), 0) };
    match Errno::result(length) {
        Ok(0) | Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
        other => drop(other?),
    }
    let mut list = vec![0_u8; LARGEST];
    // SAFETY: the call writes at most the given size into `list`, which is as long and lives across the call.
    let length =
        unsafe { libc::flistxattr(file.as_raw_fd(), list.as_mut_ptr().cast(), list.len()) };
    list.truncate(size(length)?);
    let names = list.split(|&byte| byte == 0);
    Ok(names
        .filter(|name| !name.is_empty())
        .filter_map(|name| CString::new(name).ok())
        .collect())
}

/// The value of the attribute `name`.
///
/// # Errors
/// The errno of fgetxattr(2), `ENODATA` where there is none.
pub fn get(file: BorrowedFd<'_>, name: &CStr) -> nix::Result<Vec<u8>> {
    let mut value = vec![0_u8; LARGEST];
    // SAFETY: `name` ends with NUL; the call writes at most the given size into `value`, which is as long.
    let length = unsafe {
        libc::fgetxattr(
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(size(length)?);
    Ok(value)
}

/// Gives the attribute `name` a value.
///
/// # Errors
/// The errno of fsetxattr(2), `EOPNOTSUPP` where the file system keeps none of its kind.
pub fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> nix::Result<()> {
    // SAFETY: `name` ends with NUL; the call reads the given size of `value`, which is as long.
    let result = unsafe {
        libc::fsetxattr(
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    Errno::result(result).map(drop)
}

fn size(length: isize) -> nix::Result<usize> {
    Errno::result(length).map(isize::unsigned_abs)
}
