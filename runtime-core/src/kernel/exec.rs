//! execve(2) and execveat(2) from arguments made before a clone.

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::errno::Errno;

/// Arguments or environment in the form that execve takes: pointers, the last one null.
///
/// Owns the strings that the pointers lead to.
#[derive(Debug)]
pub struct CStrings {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl CStrings {
    /// Takes `strings` and points at them.
    #[must_use]
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect();
        Self { strings, pointers }
    }

    /// The strings.
    #[must_use]
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }

    /// Puts `string` in the place of the one at `index`. Does not allocate.
    ///
    /// # Panics
    /// If `index` is not below the number of strings.
    pub fn replace(&mut self, index: usize, string: CString) {
        self.pointers[index] = string.as_ptr();
        self.strings[index] = string;
    }
}

/// Replaces this process by the program at `path`. Returns only an errno.
pub fn execve(path: &CStr, args: &CStrings, env: &CStrings) -> Errno {
    // SAFETY: `path` ends with NUL; both arrays end with a null pointer and point at strings that `CStrings` owns and
    // that live as long as the borrow. On success nothing returns.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    Errno::last()
}

/// Replaces this process by the program that `program` is a descriptor of.
///
/// # Errors
/// The errno of execveat(2): this function returns only then.
pub fn execveat(
    program: BorrowedFd<'_>,
    args: &CStrings,
    env: &CStrings,
) -> nix::Result<Infallible> {
    // SAFETY: as for execve; the empty path with AT_EMPTY_PATH makes the descriptor itself the program.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(Errno::last())
}
