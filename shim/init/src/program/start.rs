//! ocirun-init, the program: its entry, and what the compiler wants of a program without the standard library.
//!
//! Compiled by the package's build script, not by cargo: see `build.rs` and the library's documentation.
#![no_std]
#![no_main]

mod command;
mod exec;
mod lockdown;
mod personality;
mod print;
mod reap;
mod signals;
mod supervise;
mod sys;
mod text;

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {}", sym enter);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".globl _start", "_start:", "mov x29, #0", "mov x30, #0", "mov x0, sp", "and sp, x0, #-16", "bl {}", sym enter
);

/// The first Rust function. Signals are blocked before anything else is done: those that came in after the exec and
/// before this line are the ones that only the launcher can save, by blocking them itself.
extern "C" fn enter(stack: *mut usize) -> ! {
    let mask = sys::set_mask(sys::Signals::ALL);
    // SAFETY: _start passes the stack pointer that the kernel gave it, and runs once.
    let (arguments, environment) = unsafe { sys::strings(stack) };
    supervise::main(arguments, environment, mask)
}

/// Nothing panics; if something did, the child's fate would be unknown, so the container ends with tini's own code.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(1)
}

/// The memory routines that the compiler calls for copies and comparisons; volatile, or it would make them call themselves.
mod memory {
    use core::ptr::{read_volatile, write_volatile};

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
        for at in 0..n {
            // SAFETY: the compiler's contract of memcpy: both are valid for n bytes.
            unsafe { write_volatile(to.add(at), read_volatile(from.add(at))) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
        if to.cast_const() <= from {
            // SAFETY: copied upwards, nothing is overwritten before it is read; valid for n bytes by the contract.
            return unsafe { memcpy(to, from, n) };
        }
        for at in (0..n).rev() {
            // SAFETY: the compiler's contract of memmove: both are valid for n bytes.
            unsafe { write_volatile(to.add(at), read_volatile(from.add(at))) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
        let [byte, ..] = byte.to_le_bytes();
        for at in 0..n {
            // SAFETY: the compiler's contract of memset: valid for n bytes.
            unsafe { write_volatile(to.add(at), byte) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
        for at in 0..n {
            // SAFETY: the compiler's contract of memcmp: both are valid for n bytes.
            let (x, y) = unsafe { (read_volatile(a.add(at)), read_volatile(b.add(at))) };
            if x != y {
                return i32::from(x) - i32::from(y);
            }
        }
        0
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
        // SAFETY: the same contract.
        unsafe { memcmp(a, b, n) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(text: *const u8) -> usize {
        let mut n = 0;
        // SAFETY: n never passes the NUL, which the contract of strlen promises.
        while unsafe { read_volatile(text.add(n)) } != 0 {
            n += 1;
        }
        n
    }
}
