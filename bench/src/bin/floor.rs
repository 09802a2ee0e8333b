//! The floor: the system calls that a container's start cannot do without, and nothing else.
//!
//! `ocirun-bench-floor ROOTFS PROGRAM [v1:DIRECTORY | cpuset:DIRECTORY | v2:DIRECTORY]...`
//!
//! Makes the cgroup directories, clones a process into new mount, PID, IPC, UTS, network and cgroup namespaces, lets it
//! join the directories, mount proc, /dev with its nodes, devpts, shm, mqueue and sysfs, pivot and execute PROGRAM;
//! waits for it and removes the directories. No configuration is read, no state kept, nothing is masked, no privilege is
//! dropped. The caller names the directories, so that nothing is parsed here.
//!
//! The child joins by writing 0 to its own `tasks` (v1) or is born inside (`CLONE_INTO_CGROUP`, v2): either spares the
//! RCU grace period that writing another process's number to `cgroup.procs` waits for.
#![no_main]
#![allow(unsafe_code, reason = "system calls without the runtime of std")]

use core::ffi::{CStr, c_char, c_int, c_uint, c_ulong};
use std::ffi::CString;

/// `CLONE_INTO_CGROUP` of clone3(2); libc has it truncated to an int.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// The namespaces made by the clone. The cgroup namespace follows once the directories are joined, as its root is the
/// place where its maker stands.
const NAMESPACES: c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET;
/// Name and number of each node in /dev.
const NODES: [(&CStr, c_uint, c_uint); 6] = [
    (c"dev/null", 1, 3),
    (c"dev/zero", 1, 5),
    (c"dev/full", 1, 7),
    (c"dev/random", 1, 8),
    (c"dev/urandom", 1, 9),
    (c"dev/tty", 5, 0),
];
/// The links in /dev and where they lead.
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"dev/fd"),
    (c"/proc/self/fd/0", c"dev/stdin"),
    (c"/proc/self/fd/1", c"dev/stdout"),
    (c"/proc/self/fd/2", c"dev/stderr"),
    (c"pts/ptmx", c"dev/ptmx"),
];

/// The C entry point.
///
/// # Safety
/// Called by the C start-up code only, with the kernel's argument vector.
// SAFETY: no other item of this program is called `main`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    let argument = |i| {
        // SAFETY: i is below argc, so the element is part of the vector.
        let element = unsafe { argv.add(i) };
        // SAFETY: as above.
        let pointer = unsafe { *element };
        // SAFETY: each element is a NUL-terminated string that lives as long as the process.
        unsafe { CStr::from_ptr(pointer) }
    };
    let arguments: Vec<&CStr> = (1..count).map(argument).collect();
    let [rootfs, program, directories @ ..] = arguments.as_slice() else {
        return 64;
    };
    let mut cgroups = Cgroups::default();
    for directory in directories {
        cgroups.make(directory);
    }
    let pid = clone_into(cgroups.unified);
    if pid == 0 {
        child(rootfs, program, &cgroups.tasks);
    }
    let mut status = 0;
    // SAFETY: `status` is a live local.
    check(c"waitpid", unsafe {
        libc::waitpid(pid, &raw mut status, 0)
    });
    for path in &cgroups.paths {
        // SAFETY: a C string that outlives the call.
        check(c"rmdir", unsafe { libc::rmdir(path.as_ptr()) });
    }
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        70
    }
}

/// The directories made, and the descriptors that lead into them.
struct Cgroups {
    paths: Vec<CString>,
    tasks: Vec<c_int>,
    unified: c_int,
}

impl Default for Cgroups {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            tasks: Vec::new(),
            unified: -1,
        }
    }
}

impl Cgroups {
    /// Makes one directory, given with its kind in front.
    fn make(&mut self, argument: &CStr) {
        let bytes = argument.to_bytes();
        let Some(colon) = bytes.iter().position(|byte| *byte == b':') else {
            end(c"argument without a kind")
        };
        let (kind, rest) = bytes.split_at(colon);
        let path = joined(&[&rest[1..]]);
        // SAFETY: a C string that outlives the call.
        check(c"mkdir", unsafe { libc::mkdir(path.as_ptr(), 0o755) });
        if kind == b"cpuset" {
            copy_down(path.to_bytes(), b"/cpuset.cpus");
            copy_down(path.to_bytes(), b"/cpuset.mems");
        }
        if kind == b"v2" {
            self.unified = open(&path, libc::O_PATH | libc::O_DIRECTORY);
        } else {
            self.tasks
                .push(open(&joined(&[path.to_bytes(), b"/tasks"]), libc::O_WRONLY));
        }
        self.paths.push(path);
    }
}

/// Copies a setting from the directory above, as cpuset wants before anything may join.
fn copy_down(directory: &[u8], file: &[u8]) {
    let source = open(&joined(&[directory, b"/..", file]), libc::O_RDONLY);
    let target = open(&joined(&[directory, file]), libc::O_WRONLY);
    let mut value = [0_u8; 256];
    // SAFETY: the buffer is as long as said.
    let length = unsafe { libc::read(source, value.as_mut_ptr().cast(), value.len()) };
    let length = usize::try_from(length).unwrap_or_else(|_| end(c"read"));
    // SAFETY: `length` bytes of the buffer were filled.
    if unsafe { libc::write(target, value.as_ptr().cast(), length) } < 0 {
        end(c"write");
    }
}

/// clone3 into the namespaces and, unless it is -1, into the cgroup of the second version.
fn clone_into(cgroup: c_int) -> libc::pid_t {
    // SAFETY: all-zero is a valid clone_args.
    let mut arguments: libc::clone_args = unsafe { core::mem::zeroed() };
    arguments.flags = u64::from(NAMESPACES.cast_unsigned());
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Ok(descriptor) = u64::try_from(cgroup) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = descriptor;
    }
    // SAFETY: no memory is shared with the child, and this process has one thread, so the copy is whole.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    let pid = c_int::try_from(pid).unwrap_or(-1);
    check(c"clone3", pid);
    pid
}

/// The container's side: joins, mounts, pivots, executes.
fn child(rootfs: &CStr, program: &CStr, tasks: &[c_int]) -> ! {
    for file in tasks {
        // SAFETY: one byte is read from a literal of one byte.
        if unsafe { libc::write(*file, c"0".as_ptr().cast(), 1) } != 1 {
            end(c"write tasks");
        }
    }
    // SAFETY: changes this process's namespace, no memory.
    check(c"unshare", unsafe { libc::unshare(libc::CLONE_NEWCGROUP) });
    mount(rootfs, rootfs, c"", libc::MS_BIND | libc::MS_REC, c"");
    // SAFETY: a C string that outlives the call.
    check(c"chdir", unsafe { libc::chdir(rootfs.as_ptr()) });
    mount(c"proc", c"proc", c"proc", 0, c"");
    devices();
    mount(
        c"sysfs",
        c"sys",
        c"sysfs",
        libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV | libc::MS_RDONLY,
        c"",
    );
    // SAFETY: both paths are C strings; the call changes mounts, no memory.
    check_long(c"pivot_root", unsafe {
        libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr())
    });
    // SAFETY: a C string that outlives the call.
    check(c"umount2", unsafe {
        libc::umount2(c".".as_ptr(), libc::MNT_DETACH)
    });
    // SAFETY: a C string that outlives the call.
    check(c"chdir", unsafe { libc::chdir(c"/".as_ptr()) });
    let arguments = [program.as_ptr(), core::ptr::null()];
    let environment = [core::ptr::null()];
    // SAFETY: both vectors end with a null pointer and outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    end(c"execve")
}

/// /dev and what is mounted in it.
fn devices() {
    const BARE: c_ulong = libc::MS_NOSUID | libc::MS_NOEXEC;
    mount(
        c"tmpfs",
        c"dev",
        c"tmpfs",
        libc::MS_NOSUID | libc::MS_STRICTATIME,
        c"mode=755,size=65536k",
    );
    // SAFETY: changes the mask of this process, no memory.
    unsafe { libc::umask(0) };
    for (path, major, minor) in NODES {
        // SAFETY: a C string that outlives the call.
        check(c"mknod", unsafe {
            libc::mknod(
                path.as_ptr(),
                libc::S_IFCHR | 0o666,
                libc::makedev(major, minor),
            )
        });
    }
    for (target, path) in LINKS {
        // SAFETY: two C strings that outlive the call.
        check(c"symlink", unsafe {
            libc::symlink(target.as_ptr(), path.as_ptr())
        });
    }
    for path in [c"dev/pts", c"dev/shm", c"dev/mqueue"] {
        // SAFETY: a C string that outlives the call.
        check(c"mkdir", unsafe { libc::mkdir(path.as_ptr(), 0o755) });
    }
    mount(
        c"devpts",
        c"dev/pts",
        c"devpts",
        BARE,
        c"newinstance,ptmxmode=0666,mode=0620,gid=5",
    );
    mount(
        c"shm",
        c"dev/shm",
        c"tmpfs",
        BARE | libc::MS_NODEV,
        c"mode=1777,size=65536k",
    );
    mount(
        c"mqueue",
        c"dev/mqueue",
        c"mqueue",
        BARE | libc::MS_NODEV,
        c"",
    );
}

fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: c_ulong, data: &CStr) {
    // SAFETY: four C strings that outlive the call.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    };
    check(target, result);
}

fn open(path: &CStr, flags: c_int) -> c_int {
    // SAFETY: a C string that outlives the call; the descriptor is this process's until it ends.
    let descriptor = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) };
    check(path, descriptor);
    descriptor
}

fn joined(parts: &[&[u8]]) -> CString {
    CString::new(parts.concat()).unwrap_or_else(|_| end(c"NUL in a path"))
}

fn check(step: &CStr, result: c_int) {
    if result < 0 {
        end(step);
    }
}

fn check_long(step: &CStr, result: libc::c_long) {
    if result < 0 {
        end(step);
    }
}

/// Says which step broke and ends the process.
fn end(step: &CStr) -> ! {
    // SAFETY: a C string; errno is still that of the call that broke.
    unsafe { libc::perror(step.as_ptr()) };
    // SAFETY: ends the process, nothing else.
    unsafe { libc::_exit(71) }
}
