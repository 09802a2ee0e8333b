//! Runs a program and prints the peak resident memory, in KiB, of the largest process among it and those it waited for.
//!
//! exec carries the peak of the memory it replaces into the new program's figure (`exec_mmap` in the kernel), so the
//! parent that forks has to be smaller than what it measures: this one is, the bench is not.
#![no_main]
#![allow(unsafe_code, reason = "a program without the runtime of std")]

use core::ffi::{c_char, c_int};

/// The C entry point: `ocirun-bench-rss PROGRAM [ARGUMENT...]`. The program inherits standard output, so it should be silent.
///
/// # Safety
/// Called by the C start-up code only, with the kernel's argument vector.
// SAFETY: no other item of this program is called `main`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    if argc < 2 {
        return 64;
    }
    // SAFETY: argc is at least 2; the vector ends with a null pointer.
    let command = unsafe { argv.add(1) };
    // SAFETY: `command` points at an element of the vector.
    let program = unsafe { *command };
    // SAFETY: this process has one thread, so its copy is whole.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: `command` is a null-terminated vector of C strings, `program` its first.
        unsafe { libc::execvp(program, command) };
        // SAFETY: ends the process, nothing else.
        unsafe { libc::_exit(127) };
    }
    // SAFETY: an all-zero rusage is a valid one.
    let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
    let mut status = 0;
    // SAFETY: both pointers lead to live locals; a failed fork's -1 waits for any child and finds none.
    if unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } != pid {
        return 71;
    }
    // SAFETY: the format takes one long, which is what ru_maxrss is.
    unsafe { libc::printf(c"%ld\n".as_ptr(), usage.ru_maxrss) };
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        70
    }
}
