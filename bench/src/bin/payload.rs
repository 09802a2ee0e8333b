//! What the containers run where no static busybox is found: exits with 0 at once, or with the argument `pause` never.
#![no_main]
#![allow(unsafe_code, reason = "a program without the runtime of std")]

use core::ffi::{CStr, c_char, c_int};

/// The C entry point.
///
/// # Safety
/// Called by the C start-up code only, with the kernel's argument vector.
// SAFETY: no other item of this program is called `main`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    if argc < 2 {
        return 0;
    }
    // SAFETY: argc is at least 2, so the vector has a second element.
    let element = unsafe { argv.add(1) };
    // SAFETY: as above.
    let first = unsafe { *element };
    // SAFETY: the kernel ends every argument with a NUL and keeps it for the life of the process.
    if unsafe { CStr::from_ptr(first) } == c"pause" {
        loop {
            // SAFETY: takes no arguments and touches no memory.
            unsafe { libc::pause() };
        }
    }
    0
}
