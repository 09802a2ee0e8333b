//! The system calls, the entry point's view of its stack, and the memory routines that the compiler calls.
//!
//! The only file of the program with `unsafe` besides the entry in `start.rs`. Every function is one call with plain
//! arguments; a negative result is `Err(errno)`. Calls that cannot fail in a way that matters return nothing.
//! Kernel: pidfd_send_signal 5.1, CLONE_PIDFD 5.2, close_range 5.9, PIDFD_GET_INFO's exit status 6.15.
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "each block walks one array of the kernel's, under one reason"
)]

use core::arch::asm;

/// An errno as the kernel returns it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

impl Errno {
    /// No such process.
    pub const ESRCH: Self = Self(3);
    /// Argument list of no known format.
    pub const ENOEXEC: Self = Self(8);
    /// No child left.
    pub const ECHILD: Self = Self(10);
    /// The queue of pending signals is full.
    pub const EAGAIN: Self = Self(11);
    /// Permission denied.
    pub const EACCES: Self = Self(13);
    /// No such file.
    pub const ENOENT: Self = Self(2);
    /// A path component is no directory.
    pub const ENOTDIR: Self = Self(20);
}

/// A descriptor. The program ends by exit, so none is ever closed one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fd(i32);

impl Fd {
    /// The standard streams.
    pub const STDIN: Self = Self(0);
    /// Where help and versions go.
    pub const STDOUT: Self = Self(1);
    /// Where messages go.
    pub const STDERR: Self = Self(2);
    /// A place in a poll set that is never ready.
    pub const NONE: Self = Self(-1);
}

#[cfg(target_arch = "x86_64")]
mod nr {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const RT_SIGACTION: usize = 13;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const SCHED_YIELD: usize = 24;
    pub const GETPID: usize = 39;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const CHDIR: usize = 80;
    pub const SETPGID: usize = 109;
    pub const GETPPID: usize = 110;
    pub const SETSID: usize = 112;
    pub const GETPGID: usize = 121;
    pub const GETSID: usize = 124;
    pub const CAPSET: usize = 126;
    pub const CAPGET: usize = 125;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const PRCTL: usize = 157;
    pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231;
    pub const PPOLL: usize = 271;
    pub const SIGNALFD4: usize = 289;
    pub const DUP3: usize = 292;
    pub const SECCOMP: usize = 317;
    /// AUDIT_ARCH_X86_64.
    pub const AUDIT_ARCH: u32 = 0xC000_003E;
}

#[cfg(target_arch = "aarch64")]
mod nr {
    pub const DUP3: usize = 24;
    pub const IOCTL: usize = 29;
    pub const CHDIR: usize = 49;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const PPOLL: usize = 73;
    pub const SIGNALFD4: usize = 74;
    pub const CAPGET: usize = 90;
    pub const CAPSET: usize = 91;
    pub const EXIT_GROUP: usize = 94;
    pub const CLOCK_GETTIME: usize = 113;
    pub const SCHED_YIELD: usize = 124;
    pub const KILL: usize = 129;
    pub const RT_SIGACTION: usize = 134;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const SETPGID: usize = 154;
    pub const GETPGID: usize = 155;
    pub const GETSID: usize = 156;
    pub const SETSID: usize = 157;
    pub const PRCTL: usize = 167;
    pub const GETPID: usize = 172;
    pub const GETPPID: usize = 173;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const SECCOMP: usize = 277;
    /// AUDIT_ARCH_AARCH64.
    pub const AUDIT_ARCH: u32 = 0xC000_00B7;
}

// Calls since 5.0 have one number on every architecture.
const PIDFD_SEND_SIGNAL: usize = 424;
const CLOSE_RANGE: usize = 436;

/// What the program still calls once it supervises: the list of its own seccomp filter.
pub const CALLS_AFTER_START: [usize; 12] = [
    nr::READ,
    nr::WRITE,
    nr::RT_SIGACTION,
    nr::IOCTL,
    nr::SCHED_YIELD,
    nr::WAIT4,
    nr::KILL,
    nr::GETPID,
    nr::CLOCK_GETTIME,
    nr::PPOLL,
    nr::EXIT_GROUP,
    PIDFD_SEND_SIGNAL,
];

/// The architecture as seccomp names it.
pub const AUDIT_ARCH: u32 = nr::AUDIT_ARCH;

/// One system call with up to six arguments.
///
/// # Safety
/// The arguments are what the call's man page asks for: pointers valid for what the kernel reads and writes through them.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn syscall(number: usize, a: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the x86-64 convention: number and result in rax, rcx and r11 lost; the caller vouches for the arguments.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
             in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// One system call with up to six arguments.
///
/// # Safety
/// The arguments are what the call's man page asks for: pointers valid for what the kernel reads and writes through them.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
unsafe fn syscall(number: usize, a: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the arm64 convention: number in x8, result in x0; the caller vouches for the arguments.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a[0] => result, in("x1") a[1], in("x2") a[2], in("x3") a[3],
             in("x4") a[4], in("x5") a[5], options(nostack));
    }
    result
}

fn checked(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno(i32::try_from(-result).unwrap_or(i32::MAX)))
}

/// A call whose arguments are all numbers, or pointers made from live references by the functions below.
fn call(number: usize, a: &[usize]) -> Result<usize, Errno> {
    let mut all = [0; 6];
    for (to, from) in all.iter_mut().zip(a) {
        *to = *from;
    }
    // SAFETY: private to this file; each caller passes numbers, or addresses of values that it borrows across the call.
    checked(unsafe { syscall(number, all) })
}

fn addr<T>(value: &T) -> usize {
    core::ptr::from_ref(value).expose_provenance()
}

fn addr_mut<T>(value: &mut T) -> usize {
    core::ptr::from_mut(value).expose_provenance()
}

fn fd(value: Fd) -> usize {
    signed(value.0)
}

/// A negative number as the register holds it.
#[expect(
    clippy::cast_sign_loss,
    reason = "system call arguments are the two's complement of the number"
)]
fn signed(value: i32) -> usize {
    value as isize as usize
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "descriptors and pids fit in 31 bits"
)]
fn small(value: usize) -> i32 {
    value as i32
}

/// exit_group(2).
pub fn exit(code: u8) -> ! {
    loop {
        let _ = call(nr::EXIT_GROUP, &[usize::from(code)]);
    }
}

/// write(2), whatever comes of it: a message that cannot be written must not end PID 1.
pub fn write(to: Fd, bytes: &[u8]) {
    let _ = call(
        nr::WRITE,
        &[fd(to), bytes.as_ptr().expose_provenance(), bytes.len()],
    );
}

/// A set of signals, bit `n - 1` for signal `n`, as the kernel has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signals(pub u64);

impl Signals {
    /// Every signal; the kernel leaves out KILL and STOP.
    pub const ALL: Self = Self(u64::MAX);
}

/// Sets the calling process's signal mask and returns the one before.
pub fn set_mask(mask: Signals) -> Signals {
    let mut before = 0u64;
    let _ = call(
        nr::RT_SIGPROCMASK,
        &[2, addr(&mask.0), addr_mut(&mut before), 8],
    );
    Signals(before)
}

/// A signal's disposition as sigaction(2) keeps it: handler, flags, restorer, mask.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Action([u64; 4]);

impl Action {
    /// SIG_DFL.
    pub const DEFAULT: Self = Self([0; 4]);
    /// SIG_IGN.
    pub const IGNORE: Self = Self([1, 0, 0, 0]);
}

/// Sets the disposition of `signal` and returns the one before.
pub fn set_action(signal: i32, action: Action) -> Action {
    let mut before = Action::DEFAULT;
    let _ = call(
        nr::RT_SIGACTION,
        &[signed(signal), addr(&action), addr_mut(&mut before), 8],
    );
    before
}

/// A received signal: what of signalfd's record is needed, see signalfd(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// The signal's number.
    pub signal: i32,
    /// Who made it: SI_USER 0, SI_QUEUE -1, positive from the kernel.
    pub code: i32,
    /// The sender, in our PID namespace.
    pub pid: u32,
    /// The sender's user.
    pub uid: u32,
    /// What sigqueue(3) sent along.
    pub value: u64,
}

/// A descriptor from which the signals of `set` are read.
pub fn signal_fd(set: Signals) -> Result<Fd, Errno> {
    const CLOEXEC_NONBLOCK: usize = 0o2_004_000;
    call(
        nr::SIGNALFD4,
        &[signed(-1), addr(&set.0), 8, CLOEXEC_NONBLOCK],
    )
    .map(|n| Fd(small(n)))
}

/// The next pending signal of a signal descriptor, if there is one.
pub fn next_signal(from: Fd) -> Option<Received> {
    #[repr(C, align(8))]
    struct Info([u32; 32]);
    let mut info = Info([0; 32]);
    let n = call(nr::READ, &[fd(from), addr_mut(&mut info), 128]);
    if n != Ok(128) {
        return None;
    }
    let w = &info.0;
    Some(Received {
        signal: w[0].cast_signed(),
        code: w[2].cast_signed(),
        pid: w[3],
        uid: w[4],
        value: u64::from(w[12]) | u64::from(w[13]) << 32,
    })
}

/// Takes one pending signal of `set` without waiting and returns its sender.
pub fn take_pending(set: Signals) -> Option<i32> {
    let mut info = [0u64; 16];
    let now = [0u64; 2];
    call(
        nr::RT_SIGTIMEDWAIT,
        &[addr(&set.0), addr_mut(&mut info), addr(&now), 8],
    )
    .ok()?;
    Some(small(usize::try_from(info[2] & 0xFFFF_FFFF).ok()?))
}

/// What of a poll set became ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The first descriptor.
    pub first: bool,
    /// The second descriptor.
    pub second: bool,
}

/// Waits until one of two descriptors is readable, for `timeout_ms` or for ever.
pub fn poll(first: Fd, second: Fd, timeout_ms: Option<u64>) -> Ready {
    #[repr(C)]
    struct PollFd {
        fd: i32,
        events: u16,
        revents: u16,
    }
    const READABLE: u16 = 1;
    let mut set = [first, second].map(|f| PollFd {
        fd: f.0,
        events: READABLE,
        revents: 0,
    });
    // The kernel writes the rest of the time back.
    let mut time = timeout_ms.map(|ms| [ms / 1000, ms % 1000 * 1_000_000]);
    let limit = time.as_mut().map_or(0, addr_mut);
    let _ = call(nr::PPOLL, &[addr_mut(&mut set), 2, limit, 0, 8]);
    Ready {
        first: set[0].revents != 0,
        second: set[1].revents != 0,
    }
}

/// Milliseconds of the monotonic clock.
pub fn now_ms() -> u64 {
    let mut time = [0u64; 2];
    let _ = call(nr::CLOCK_GETTIME, &[1, addr_mut(&mut time)]);
    time[0] * 1000 + time[1] / 1_000_000
}

/// Lets another process run.
pub fn give_way() {
    let _ = call(nr::SCHED_YIELD, &[]);
}

/// A process's own number.
pub fn pid() -> i32 {
    call(nr::GETPID, &[]).map_or(0, small)
}

/// The parent's number, 0 if it is outside of our PID namespace.
pub fn parent() -> i32 {
    call(nr::GETPPID, &[]).map_or(0, small)
}

/// kill(2).
pub fn kill(target: i32, signal: i32) -> Result<(), Errno> {
    call(nr::KILL, &[signed(target), signed(signal)]).map(drop)
}

/// Whom pidfd_send_signal(2) reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The process.
    Process,
    /// Every process of the group that the process leads; Linux 6.9.
    Group,
}

/// pidfd_send_signal(2). What a process queued goes on with its value and its sender; the rest as plain signals,
/// because the kernel lets nobody imitate kill(2).
pub fn send(to: Fd, scope: Scope, what: &Received) -> Result<(), Errno> {
    const QUEUED: i32 = -1;
    let mut info = [0u32; 32];
    info[0] = what.signal.cast_unsigned();
    info[2] = what.code.cast_unsigned();
    info[4] = what.pid;
    info[5] = what.uid;
    info[6] = u32::try_from(what.value & 0xFFFF_FFFF).unwrap_or(0);
    info[7] = u32::try_from(what.value >> 32).unwrap_or(0);
    let with = if what.code == QUEUED { addr(&info) } else { 0 };
    let flags = if scope == Scope::Group { 4 } else { 0 };
    call(
        PIDFD_SEND_SIGNAL,
        &[fd(to), signed(what.signal), with, flags],
    )
    .map(drop)
}

/// The wait status of an ended and reaped process by PIDFD_GET_INFO; none before it is reaped, or before Linux 6.15.
pub fn exit_status(of: Fd) -> Option<i32> {
    const PIDFD_GET_INFO: usize = 0xC040_FF0B;
    const WITH_EXIT: u64 = 1 << 3;
    let mut info = [0u64; 8];
    info[0] = WITH_EXIT;
    call(nr::IOCTL, &[fd(of), PIDFD_GET_INFO, addr_mut(&mut info)]).ok()?;
    // The status is the last of twelve 32-bit words behind the mask and the cgroup's number.
    (info[0] & WITH_EXIT != 0).then(|| small(usize::try_from(info[7] >> 32).unwrap_or(0)))
}

/// Reaps one ended child: its number and wait status. `Ok(None)`: none has ended.
pub fn reap_ended() -> Result<Option<(i32, i32)>, Errno> {
    const NOHANG: usize = 1;
    let mut status = 0i32;
    let n = call(nr::WAIT4, &[signed(-1), addr_mut(&mut status), NOHANG, 0])?;
    Ok((n != 0).then(|| (small(n), status)))
}

/// Waits for one child's end and reaps it.
pub fn reap_this(pid: i32) -> Result<(), Errno> {
    call(nr::WAIT4, &[signed(pid), 0, 0, 0]).map(drop)
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, which goes on only when the new one has executed a program or ended.
    Parent {
        /// The child's number.
        pid: i32,
        /// Its descriptor.
        pidfd: Fd,
    },
}

/// Forks. The parent sleeps (CLONE_VFORK) until the child's exec succeeded or the child ended; memory is not shared.
pub fn fork() -> Result<Fork, Errno> {
    const CLONE_PIDFD: usize = 0x1000;
    const CLONE_VFORK: usize = 0x4000;
    let mut pidfd = 0i32;
    match call(
        nr::CLONE,
        &[CLONE_PIDFD | CLONE_VFORK | 17, 0, addr_mut(&mut pidfd)],
    )? {
        0 => Ok(Fork::Child),
        n => Ok(Fork::Parent {
            pid: small(n),
            pidfd: Fd(pidfd),
        }),
    }
}

/// execve(2) of `path`, which ends with a NUL, with the arguments from `from` on. Returns only with an error.
pub fn execute(path: &[u8], arguments: &Strings, from: usize, environment: &Strings) -> Errno {
    if path.last() != Some(&0) || from > arguments.count {
        return Errno::ENOENT;
    }
    let argv = arguments.base.wrapping_add(from).expose_provenance();
    let path = path.as_ptr().expose_provenance();
    call(
        nr::EXECVE,
        &[path, argv, environment.base.expose_provenance()],
    )
    .err()
    .unwrap_or(Errno::ENOENT)
}

/// setpgid(0, 0).
pub fn new_group() {
    let _ = call(nr::SETPGID, &[0, 0]);
}

/// setsid(2).
pub fn new_session() -> Result<(), Errno> {
    call(nr::SETSID, &[]).map(drop)
}

/// Whether the process leads its session.
pub fn leads_session() -> bool {
    call(nr::GETSID, &[0]).map(small) == Ok(pid())
}

/// Whether standard input is our controlling terminal and our group is in its foreground.
pub fn owns_foreground() -> bool {
    const TIOCGPGRP: usize = 0x540F;
    let mut group = 0i32;
    let read = call(nr::IOCTL, &[fd(Fd::STDIN), TIOCGPGRP, addr_mut(&mut group)]);
    read.is_ok() && call(nr::GETPGID, &[0]).map(small) == Ok(group)
}

/// Makes our own group the foreground group of standard input's terminal.
pub fn take_foreground() {
    const TIOCSPGRP: usize = 0x5410;
    let group = pid();
    let _ = call(nr::IOCTL, &[fd(Fd::STDIN), TIOCSPGRP, addr(&group)]);
}

/// Gives up the controlling terminal.
pub fn leave_terminal() -> Result<(), Errno> {
    const TIOCNOTTY: usize = 0x5422;
    call(nr::IOCTL, &[fd(Fd::STDIN), TIOCNOTTY]).map(drop)
}

/// Makes standard input's terminal the controlling one of our session.
pub fn take_terminal() -> Result<(), Errno> {
    const TIOCSCTTY: usize = 0x540E;
    call(nr::IOCTL, &[fd(Fd::STDIN), TIOCSCTTY, 0]).map(drop)
}

/// chdir("/").
pub fn leave_directory() {
    let root = *b"/\0";
    let _ = call(nr::CHDIR, &[addr(&root)]);
}

/// Moves two descriptors to 3 and 4 and closes all from 5 on. Standard streams stay as they are, closed or not.
pub fn keep_only(first: Fd, second: Fd) -> (Fd, Fd) {
    const CLOEXEC: usize = 0o2_000_000;
    // By way of two high numbers, so that neither overwrites the other.
    let park = |from: Fd, at: usize| {
        call(nr::DUP3, &[fd(from), at, CLOEXEC]).map_or(from, |n| Fd(small(n)))
    };
    let (first, second) = (park(first, 40), park(second, 41));
    let (first, second) = (park(first, 3), park(second, 4));
    let _ = call(CLOSE_RANGE, &[5, 0xFFFF_FFFF, 0]);
    (first, second)
}

/// prctl(2) options without a pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prctl {
    /// PR_SET_PDEATHSIG: the signal that we get when our parent ends.
    ParentDeath(i32),
    /// PR_SET_CHILD_SUBREAPER: orphans below us become our children.
    Subreaper,
    /// PR_SET_DUMPABLE 0: no debugger, no core file.
    NotDumpable,
    /// PR_SET_NO_NEW_PRIVS.
    NoNewPrivileges,
}

/// prctl(2).
pub fn prctl(what: Prctl) -> Result<(), Errno> {
    let (option, value) = match what {
        Prctl::ParentDeath(signal) => (1, signed(signal)),
        Prctl::Subreaper => (36, 1),
        Prctl::NotDumpable => (4, 0),
        Prctl::NoNewPrivileges => (38, 1),
    };
    call(nr::PRCTL, &[option, value, 0, 0, 0]).map(drop)
}

/// Whether orphans below us become our children (PR_GET_CHILD_SUBREAPER).
pub fn is_subreaper() -> bool {
    let mut set = 0i32;
    call(nr::PRCTL, &[37, addr_mut(&mut set), 0, 0, 0]).is_ok() && set != 0
}

/// Keeps of the permitted capabilities only those of `mask` (of the first 32), and makes them effective.
pub fn keep_capabilities(mask: u32) {
    const VERSION_3: [u32; 2] = [0x2008_0522, 0];
    let mut sets = [0u32; 6];
    if call(nr::CAPGET, &[addr(&VERSION_3), addr_mut(&mut sets)]).is_ok() {
        let kept = sets[1] & mask;
        let _ = call(
            nr::CAPSET,
            &[addr(&VERSION_3), addr(&[kept, kept, 0, 0, 0, 0])],
        );
    }
}

/// One instruction of a seccomp program, as seccomp(2) takes it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// How many to skip when a comparison holds.
    pub yes: u8,
    /// How many to skip when it does not.
    pub no: u8,
    /// The operand.
    pub k: u32,
}

/// Installs a seccomp filter on the process.
pub fn filter(program: &[Instruction]) -> Result<(), Errno> {
    #[repr(C)]
    struct Program {
        len: usize,
        at: usize,
    }
    let program = Program {
        len: program.len(),
        at: program.as_ptr().expose_provenance(),
    };
    call(nr::SECCOMP, &[1, 0, addr(&program)]).map(drop)
}

/// An array of C strings that the kernel put on our stack: the arguments or the environment. It is ours to change.
#[derive(Debug)]
pub struct Strings {
    base: *mut *const u8,
    count: usize,
}

impl Strings {
    /// # Safety
    /// `base` points to `count` C strings that live as long as the process, with a null pointer behind them, and nobody
    /// else uses the array.
    pub const unsafe fn new(base: *mut *const u8, count: usize) -> Self {
        Self { base, count }
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// The string at `index`, without its NUL; empty beyond the end.
    pub fn get(&self, index: usize) -> &'static [u8] {
        if index >= self.count {
            return b"";
        }
        // SAFETY: index is below count, and by new's contract every entry up to there is a C string that lives on.
        unsafe {
            let text = *self.base.add(index);
            core::slice::from_raw_parts(text, length(text))
        }
    }

    /// Replaces the string at `index` by `text`, which ends with a NUL. The caller keeps `text` until the exec.
    pub fn set(&mut self, index: usize, text: &[u8]) {
        if index < self.count && text.last() == Some(&0) {
            // SAFETY: index is below count, so the slot is one of the array that new's contract gives us.
            unsafe { *self.base.add(index) = text.as_ptr() };
        }
    }

    /// Takes the string at `index` out.
    pub fn remove(&mut self, index: usize) {
        for at in index..self.count {
            // SAFETY: at + 1 is at most count, where the array has its null pointer, which moves along.
            unsafe { *self.base.add(at) = *self.base.add(at + 1) };
        }
        self.count = self.count.saturating_sub(usize::from(index < self.count));
    }
}

/// The length of a C string.
///
/// # Safety
/// `text` points to a NUL-terminated string.
unsafe fn length(text: *const u8) -> usize {
    let mut n = 0;
    // SAFETY: n never passes the NUL, up to which the caller vouches for the memory.
    while unsafe { *text.add(n) } != 0 {
        n += 1;
    }
    n
}

/// The arguments and the environment from the stack that the kernel made for us, see execve(2) and the psABI.
///
/// # Safety
/// `stack` is the stack pointer at the program's entry, and this is called once.
pub unsafe fn strings(stack: *mut usize) -> (Strings, Strings) {
    // SAFETY: the kernel's layout: the count, that many strings, null, the environment's strings, null.
    unsafe {
        let argc = *stack;
        let argv: *mut *const u8 = stack.add(1).cast();
        let envp = argv.add(argc + 1);
        let mut envc = 0;
        while !(*envp.add(envc)).is_null() {
            envc += 1;
        }
        (Strings::new(argv, argc), Strings::new(envp, envc))
    }
}
