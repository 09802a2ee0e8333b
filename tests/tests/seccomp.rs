//! Seccomp: actions, errno values, arguments, architectures, flags, the profile that Docker ships, the notify agent.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use ocirun_tests::{
    Bundle, Container, Need, accept_in_time, receive_descriptors, receive_message, suite,
};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

const ARCHITECTURES: [&str; 3] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];

fn filtered(seccomp: Value) -> Bundle {
    Bundle::new().set("/linux/seccomp", seccomp)
}

/// Everything allowed but these rules.
fn denying(rules: Value) -> Bundle {
    filtered(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ARCHITECTURES, "syscalls": rules}),
    )
}

fn attempts(bundle: Bundle, names: &[&str]) -> Vec<Value> {
    let steps: Vec<&str> = names
        .iter()
        .flat_map(|name| [",", "syscall", name])
        .skip(1)
        .collect();
    let run = bundle.probe(&steps).container().run();
    run.values()
}

fn errno(name: &str) -> Value {
    json!({"errno": name})
}

fn off_by_default() {
    assert_eq!(Bundle::new().container().run().ok().value()["seccomp"], "0");
}

fn the_mode_is_filter() {
    let report = denying(json!([{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"}]))
        .container()
        .run()
        .ok()
        .value();
    assert_eq!(
        (&report["seccomp"], &report["no_new_privs"]),
        (&json!("2"), &json!("1"))
    );
}

fn errno_is_eperm_by_default() {
    let bundle = denying(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
    assert_eq!(
        attempts(bundle.set("/root/readonly", false), &["mkdir", "getcwd"]),
        [errno("EPERM"), json!("ok")]
    );
}

fn errno_as_given() {
    let rules = json!([
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0},
    ]);
    assert_eq!(attempts(denying(rules), &["mkdir"]), [errno("ENOSYS")]);
}

fn default_errno_as_given() {
    let bundle = filtered(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 41, "architectures": ARCHITECTURES,
        "syscalls": [{"names": everything_the_probe_needs(), "action": "SCMP_ACT_ALLOW"}],
    }));
    let errno_41_has_no_name = attempts(bundle, &["getcwd", "sethostname"]);
    assert_eq!(errno_41_has_no_name[0], "ok");
    assert_eq!(errno_41_has_no_name[1], errno("UnknownErrno"));
}

/// What Rust's start, standard output and a few steps take.
fn everything_the_probe_needs() -> Vec<&'static str> {
    vec![
        "access",
        "arch_prctl",
        "brk",
        "capget",
        "capset",
        "chdir",
        "clock_gettime",
        "clock_nanosleep",
        "clone",
        "clone3",
        "close",
        "close_range",
        "dup",
        "dup2",
        "dup3",
        "epoll_create1",
        "epoll_ctl",
        "epoll_pwait",
        "eventfd2",
        "execve",
        "execveat",
        "exit",
        "exit_group",
        "faccessat",
        "faccessat2",
        "fchdir",
        "fcntl",
        "fstat",
        "fstatfs",
        "futex",
        "getcwd",
        "getdents64",
        "getegid",
        "geteuid",
        "getgid",
        "getgroups",
        "getpid",
        "getppid",
        "getrandom",
        "getrlimit",
        "gettid",
        "getuid",
        "ioctl",
        "lseek",
        "lstat",
        "madvise",
        "mmap",
        "mprotect",
        "munmap",
        "nanosleep",
        "newfstatat",
        "open",
        "openat",
        "openat2",
        "pipe2",
        "poll",
        "ppoll",
        "prctl",
        "pread64",
        "prlimit64",
        "pwrite64",
        "read",
        "readlink",
        "readlinkat",
        "readv",
        "restart_syscall",
        "rseq",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sched_getaffinity",
        "sched_yield",
        "set_robust_list",
        "set_tid_address",
        "setgid",
        "setgroups",
        "setresgid",
        "setresuid",
        "setsid",
        "setuid",
        "sigaltstack",
        "stat",
        "statfs",
        "statx",
        "tgkill",
        "uname",
        "unlinkat",
        "wait4",
        "write",
        "writev",
        "mremap",
        "sendmsg",
        "recvmsg",
        "sendto",
        "recvfrom",
        "socketpair",
        "umask",
        "seccomp",
        "pidfd_open",
        "poll",
        "getsockopt",
        "kill",
    ]
}

fn a_whitelist_runs() {
    let bundle = filtered(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "architectures": ARCHITECTURES,
        "syscalls": [{"names": everything_the_probe_needs(), "action": "SCMP_ACT_ALLOW"}],
    }));
    assert_eq!(
        attempts(bundle, &["getcwd", "unshare-uts"]),
        [json!("ok"), errno("EPERM")]
    );
}

fn kill_process() {
    for action in [
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_THREAD",
    ] {
        let bundle = denying(json!([{"names": ["personality"], "action": action}]));
        let run = bundle
            .probe(&["syscall", "getcwd", ",", "syscall", "personality"])
            .container()
            .run();
        assert_eq!(run.code(), 128 + 31, "{action}: {run}");
        assert_eq!(run.stdout(), "\"ok\"\n");
    }
}

fn trap() {
    let bundle = denying(json!([{"names": ["personality"], "action": "SCMP_ACT_TRAP"}]));
    assert_eq!(
        bundle
            .probe(&["syscall", "personality"])
            .container()
            .run()
            .code(),
        128 + 31
    );
}

fn log_and_allow_let_through() {
    let rules = json!([
        {"names": ["personality"], "action": "SCMP_ACT_LOG"}, {"names": ["getcwd"], "action": "SCMP_ACT_ALLOW"},
    ]);
    let bundle = filtered(
        json!({"defaultAction": "SCMP_ACT_LOG", "architectures": ARCHITECTURES, "syscalls": rules}),
    );
    assert_eq!(attempts(bundle, &["personality", "getcwd"]), ["ok", "ok"]);
}

fn a_name_the_kernel_lacks_is_skipped() {
    let rules = json!([
        {"names": ["no_such_call_ever", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22},
    ]);
    assert_eq!(attempts(denying(rules), &["mkdir"]), [errno("EINVAL")]);
}

fn arguments(op: &str, value: u64, value_two: u64) -> Bundle {
    denying(json!([{
        "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
        "args": [{"index": 0, "value": value, "valueTwo": value_two, "op": op}],
    }]))
}

/// AF_UNIX is 1, AF_INET 2, AF_VSOCK 40.
fn each_comparison() {
    let table: [(&str, u64, u64, [bool; 3]); 7] = [
        ("SCMP_CMP_EQ", 2, 0, [false, true, false]),
        ("SCMP_CMP_NE", 2, 0, [true, false, true]),
        ("SCMP_CMP_LT", 2, 0, [true, false, false]),
        ("SCMP_CMP_LE", 2, 0, [true, true, false]),
        ("SCMP_CMP_GT", 2, 0, [false, false, true]),
        ("SCMP_CMP_GE", 2, 0, [false, true, true]),
        ("SCMP_CMP_MASKED_EQ", 2, 2, [false, true, false]),
    ];
    for (op, value, value_two, refused) in table {
        let found = attempts(
            arguments(op, value, value_two),
            &["socket-unix", "socket-inet", "socket-vsock"],
        );
        let found: Vec<bool> = found
            .iter()
            .map(|value| *value == errno("EOPNOTSUPP"))
            .collect();
        assert_eq!(found, refused, "{op}");
    }
}

fn several_arguments_must_all_match() {
    let bundle = denying(json!([{
        "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
        "args": [
            {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"},
            {"index": 1, "value": 3, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"},
        ],
    }]));
    let found = attempts(
        bundle.capabilities(&["CAP_NET_RAW"]),
        &["socket-inet", "socket-raw", "socket-unix"],
    );
    assert_eq!(found, [json!("ok"), errno("EOPNOTSUPP"), json!("ok")]);
}

fn one_argument_twice_is_an_alternative() {
    let bundle = denying(json!([{
        "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
        "args": [
            {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"},
            {"index": 0, "value": 40, "op": "SCMP_CMP_EQ"},
        ],
    }]));
    let found = attempts(bundle, &["socket-unix", "socket-inet", "socket-vsock"]);
    assert_eq!(
        found,
        [json!("ok"), errno("EOPNOTSUPP"), errno("EOPNOTSUPP")]
    );
}

fn large_values_compare_all_64_bits() {
    let found = attempts(arguments("SCMP_CMP_LT", 1 << 40, 0), &["socket-unix"]);
    assert_eq!(found, [errno("EOPNOTSUPP")]);
    let found = attempts(arguments("SCMP_CMP_GT", 1 << 40, 0), &["socket-unix"]);
    assert_eq!(found, ["ok"]);
}

fn without_no_new_privs_it_holds_too() {
    let bundle = denying(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
    let bundle = bundle
        .set("/process/noNewPrivileges", false)
        .set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let run = bundle
        .probe(&["report", ",", "syscall", "mkdir"])
        .container()
        .run();
    assert_eq!(
        (
            &run.values()[0]["seccomp"],
            &run.values()[0]["no_new_privs"]
        ),
        (&json!("2"), &json!("0"))
    );
    assert_eq!(run.values()[1], errno("EPERM"));
}

fn exec_has_the_filter() {
    let bundle = denying(
        json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22}]),
    );
    let container = bundle.probe(&["pause"]).container();
    container.run_detached().ok();
    let exec = container.exec(&["syscall", "mkdir", ",", "report"]);
    assert_eq!(
        (&exec.values()[0], &exec.values()[1]["seccomp"]),
        (&errno("EINVAL"), &json!("2"))
    );
}

fn refused(seccomp: Value, word: &str) {
    let container = filtered(seccomp).container();
    container.run().fails(1, word);
    container.verb("state").fails(1, "container does not exist");
}

fn unknown_words_are_refused() {
    refused(
        json!({"defaultAction": "SCMP_ACT_NOSUCH"}),
        "SCMP_ACT_NOSUCH",
    );
    refused(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOSUCH"]}),
        "SCMP_ARCH_NOSUCH",
    );
    let rule = json!([{"names": ["getcwd"], "action": "SCMP_ACT_NOSUCH"}]);
    refused(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule}),
        "SCMP_ACT_NOSUCH",
    );
    let argument = json!([{"index": 0, "value": 1, "op": "SCMP_CMP_NOSUCH"}]);
    let rule = json!([{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "args": argument}]);
    refused(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule}),
        "SCMP_CMP_NOSUCH",
    );
}

fn an_argument_beyond_the_sixth_is_refused() {
    let argument = json!([{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]);
    let rule = json!([{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "args": argument}]);
    refused(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule}),
        "",
    );
}

fn notify_of_write_is_refused() {
    let rule = json!([{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]);
    let seccomp =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/no/socket", "syscalls": rule});
    refused(
        seccomp,
        "SCMP_ACT_NOTIFY cannot be used for the write syscall",
    );
}

fn notify_needs_its_agent() {
    let rule = json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]);
    let seccomp =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/no/socket", "syscalls": rule});
    refused(seccomp.clone(), "no such file or directory");
    refused(seccomp, "failed to connect with seccomp agent");
}

fn notify_hands_the_descriptor_to_the_agent() {
    let bundle = Bundle::new();
    let socket = bundle.path().join("agent");
    let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]);
    let container = bundle
        .set(
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW", "architectures": ARCHITECTURES,
                "listenerPath": socket, "listenerMetadata": "some metadata", "syscalls": rule,
            }),
        )
        .set("/annotations/org.example", "1")
        .probe(&["print", "done"])
        .container();
    let (text, count) = receive_from_agent(&socket, &container);
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(count, 1);
    assert_eq!(
        (&state["fds"], &state["metadata"]),
        (&json!(["seccompFd"]), &json!("some metadata"))
    );
    assert_eq!(state["state"]["id"], container.id);
    assert!(state["pid"].as_i64().unwrap() > 0);
    assert_eq!(state["state"]["annotations"]["org.example"], "1");
}

fn receive_from_agent(socket: &Path, container: &Container) -> (String, usize) {
    let listener = UnixListener::bind(socket).unwrap();
    let run = container.from_bundle("run", &[]).start();
    let (bytes, descriptors) = receive_descriptors(&accept_in_time(&listener));
    run.finish().ok();
    (String::from_utf8(bytes).unwrap(), descriptors.len())
}

fn notified(bundle: Bundle, socket: &Path, no_new_privileges: bool) -> Bundle {
    let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]);
    let seccomp = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ARCHITECTURES,
        "listenerPath": socket, "syscalls": rule,
    });
    bundle
        .set("/linux/seccomp", seccomp)
        .set("/process/noNewPrivileges", no_new_privileges)
}

/// Waits for a call that wants an answer, and hangs up: the call then is none that the kernel has.
fn hang_up_at_the_first_call(listener: &OwnedFd) {
    let mut polled = [PollFd::new(listener, PollFlags::IN)];
    let time = rustix::time::Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    assert_eq!(poll(&mut polled, Some(&time)), Ok(1), "no call came");
    assert!(polled[0].revents().contains(PollFlags::IN));
}

fn notify_waits_for_the_agents_answer() {
    for no_new_privileges in [true, false] {
        let bundle = Bundle::new();
        let socket = bundle.path().join("agent");
        let container = notified(bundle, &socket, no_new_privileges)
            .probe(&["syscall", "mkdir"])
            .container();
        let agent = UnixListener::bind(&socket).unwrap();
        let run = container.from_bundle("run", &[]).start();
        let (_, listeners) = receive_message(&accept_in_time(&agent));
        hang_up_at_the_first_call(&listeners[0]);
        drop(listeners);
        assert_eq!(run.finish().value(), errno("ENOSYS"));
    }
}

fn notify_of_exec_goes_to_the_agent_too() {
    let bundle = Bundle::new();
    let socket = bundle.path().join("agent");
    let container = notified(bundle, &socket, true)
        .probe(&["pause"])
        .container();
    let agent = UnixListener::bind(&socket).unwrap();
    let run = container.from_bundle("run", &["--detach"]).start();
    let (_, listeners) = receive_message(&accept_in_time(&agent));
    run.finish().ok();
    let exec = container.exec_call(&[], &["syscall", "mkdir"]).start();
    let (text, mine) = receive_message(&accept_in_time(&agent));
    let state: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(state["state"]["pid"], container.pid());
    assert_ne!(state["pid"], container.pid());
    hang_up_at_the_first_call(&mine[0]);
    drop(mine);
    assert_eq!(exec.finish().value(), errno("ENOSYS"));
    drop(listeners);
}

/// A program of tomorrow must be able to fall back: a call newer than all that the profile knows does not exist.
fn calls_newer_than_the_profile_give_enosys() {
    let mut names = everything_the_probe_needs();
    names.retain(|name| {
        ![
            "clone3",
            "close_range",
            "openat2",
            "pidfd_open",
            "faccessat2",
            "pidfd_getfd",
        ]
        .contains(name)
    });
    let bundle = filtered(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "architectures": ARCHITECTURES,
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    }));
    assert_eq!(
        attempts(bundle, &["openat2", "unshare-uts"]),
        [errno("ENOSYS"), errno("EPERM")]
    );
}

suite! {
    &[Need::Root] => [
        off_by_default,
        the_mode_is_filter,
        errno_is_eperm_by_default,
        errno_as_given,
        default_errno_as_given,
        a_whitelist_runs,
        kill_process,
        trap,
        log_and_allow_let_through,
        a_name_the_kernel_lacks_is_skipped,
        each_comparison,
        several_arguments_must_all_match,
        one_argument_twice_is_an_alternative,
        large_values_compare_all_64_bits,
        without_no_new_privs_it_holds_too,
        exec_has_the_filter,
        unknown_words_are_refused,
        an_argument_beyond_the_sixth_is_refused,
        notify_of_write_is_refused,
        calls_newer_than_the_profile_give_enosys,
    ],
    &[Need::Root] => [
        notify_needs_its_agent,
        notify_hands_the_descriptor_to_the_agent,
        notify_waits_for_the_agents_answer,
        notify_of_exec_goes_to_the_agent_too,
    ],
}
