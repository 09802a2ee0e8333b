//! What a process inside can reach, and attacks of past years as tests. Where the runtime under test is told to be
//! open to one, the test is ignored on it by name.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use ocirun_tests::{Bundle, Container, Kind, Need, PROBE, runtime, suite};
use serde_json::{Value, json};

/// The most that `runc spec` gives, plus all capabilities: what a careless user runs.
fn with_all_capabilities() -> Bundle {
    let names = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_NET_ADMIN",
        "CAP_NET_RAW",
        "CAP_SYS_PTRACE",
        "CAP_SYS_CHROOT",
        "CAP_MKNOD",
    ];
    Bundle::new().capabilities(&names)
}

fn targets(report: &Value) -> Vec<(u64, String)> {
    let list = report["fds"].as_array().unwrap();
    list.iter()
        .map(|fd| {
            (
                fd["fd"].as_u64().unwrap(),
                fd["target"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

fn only_the_standard_descriptors(report: &Value) {
    let numbers: Vec<u64> = targets(report).iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [0, 1, 2], "{:?}", targets(report));
}

fn only_standard_descriptors_are_open() {
    let container = Bundle::new().probe(&["report"]).container();
    only_the_standard_descriptors(&container.run().ok().value());
    let container = Bundle::new().probe(&["pause"]).container();
    container.run_detached().ok();
    only_the_standard_descriptors(&container.exec(&["report"]).ok().value());
}

fn descriptors_of_a_careless_caller_stay_outside() {
    let container = Bundle::new().probe(&["report"]).container();
    let call = container
        .runtime_with_descriptors(9)
        .args(["run", "--bundle"])
        .arg(container.bundle.path());
    only_the_standard_descriptors(&call.arg(&container.id).finish().ok().value());
}

fn descriptors_of_a_careless_caller_of_exec_stay_outside() {
    let container = Bundle::new().probe(&["pause"]).container();
    container.run_detached().ok();
    let call = container
        .runtime_with_descriptors(9)
        .args(["exec", &container.id, PROBE, "report"]);
    only_the_standard_descriptors(&call.finish().ok().value());
}

fn preserved_descriptors_are_those_asked_for() {
    let container = Bundle::new()
        .probe(&["report", ",", "read", "/proc/self/fd/4"])
        .container();
    let call =
        container
            .runtime_with_descriptors(9)
            .args(["run", "--preserve-fds", "2", "--bundle"]);
    let run = call
        .arg(container.bundle.path())
        .arg(&container.id)
        .finish()
        .ok();
    let numbers: Vec<u64> = targets(&run.values()[0])
        .iter()
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    assert_eq!(run.values()[1], "4", "each keeps its number");
}

fn listen_fds_are_passed_on() {
    let container = Bundle::new()
        .probe(&["report", ",", "read", "/proc/self/fd/3"])
        .container();
    let call = container
        .runtime_with_descriptors(2)
        .args(["run", "--bundle"])
        .arg(container.bundle.path());
    let run = call.arg(&container.id).env("LISTEN_FDS", "2").finish().ok();
    let report = &run.values()[0];
    let numbers: Vec<u64> = targets(report).iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    let variables = report["env"].to_string();
    assert!(
        variables.contains("\"LISTEN_FDS=2\"") && variables.contains("\"LISTEN_PID=1\""),
        "{variables}"
    );
    assert_eq!(run.values()[1], "3");
}

fn a_preserved_descriptor_that_is_not_open() {
    let container = Bundle::new().container();
    let run = container
        .from_bundle("run", &["--preserve-fds", "3"])
        .finish();
    run.fails(1, "");
    container.verb("state").fails(1, "container does not exist");
}

fn only_its_own_processes_are_visible() {
    let found = Bundle::new()
        .probe(&["list", "/proc"])
        .container()
        .run()
        .ok()
        .value();
    let numbers: Vec<&str> = found
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .filter(|name| name.parse::<u32>().is_ok())
        .collect();
    assert_eq!(numbers, ["1"]);
}

fn the_kernel_cannot_be_written_to() {
    let paths = [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/swappiness",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/devices/devices.allow",
    ];
    for path in paths {
        let found = with_all_capabilities()
            .probe(&["overwrite", path, "0"])
            .container()
            .run()
            .value();
        let refused = [
            json!({"errno": "EROFS"}),
            json!({"errno": "ENOENT"}),
            json!({"errno": "EACCES"}),
        ];
        assert!(refused.contains(&found), "{path}: {found}");
    }
}

fn capabilities_of_the_host_are_refused() {
    let names = [
        "mount-tmpfs",
        "umount-proc",
        "sethostname",
        "settime",
        "nice-up",
        "unshare-mount",
        "chroot",
        "socket-raw",
    ];
    let steps: Vec<&str> = names
        .iter()
        .flat_map(|name| [",", "syscall", name])
        .skip(1)
        .collect();
    let found = Bundle::new().probe(&steps).container().run().values();
    for (name, value) in names.iter().zip(found) {
        let refused = value == json!({"errno": "EPERM"}) || value == json!({"errno": "EACCES"});
        assert!(refused, "{name}: {value}");
    }
}

fn the_root_is_the_rootfs() {
    let found = with_all_capabilities()
        .probe(&[
            "list",
            "/",
            ",",
            "list",
            "/..",
            ",",
            "list",
            "/proc/1/root",
            ",",
            "list",
            "/proc/self/cwd/../..",
        ])
        .container()
        .run()
        .ok()
        .values();
    for value in found {
        assert_eq!(value, json!(["bin", "dev", "etc", "proc", "sys", "tmp"]));
    }
}

/// CVE-2019-5736: what /proc/PID/exe of the runtime's own process leads to can never be opened for writing and
/// written, not even when it has ended and by a process with all capabilities.
fn the_program_of_the_runtime_cannot_be_overwritten() {
    let before = fs::metadata(&runtime().program).unwrap();
    let container = Bundle::new().probe(&["pause"]).container();
    container.create().ok();
    let exe = format!("/proc/{}/exe", container.pid());
    let held = open(
        exe.as_str(),
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .unwrap();
    container
        .command("delete")
        .args(["--force", &container.id])
        .finish()
        .ok();
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    // The process may take a moment to go; until then the kernel says that the file is busy.
    let mut result = open(again.as_str(), OFlag::O_WRONLY, Mode::empty());
    for _ in 0..1000 {
        if !matches!(result, Err(Errno::ETXTBSY)) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
        result = open(again.as_str(), OFlag::O_WRONLY, Mode::empty());
    }
    if let Ok(file) = result {
        let seals =
            rustix::fs::fcntl_get_seals(&file).unwrap_or_else(|_| rustix::fs::SealFlags::empty());
        assert!(
            seals.contains(rustix::fs::SealFlags::WRITE),
            "opened for writing, and not sealed"
        );
    }
    let after = fs::metadata(&runtime().program).unwrap();
    assert_eq!((before.len(), before.mtime()), (after.len(), after.mtime()));
}

/// The same through a program that is a link to the runtime itself.
fn the_runtime_as_its_own_payload_harms_nothing() {
    let before = fs::read(&runtime().program).unwrap();
    for program in ["/proc/self/exe", "/script"] {
        let bundle = with_all_capabilities();
        fs::write(bundle.inside("/script"), "#!/proc/self/exe\n").unwrap();
        fs::set_permissions(
            bundle.inside("/script"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let container = bundle.args(&[program, "init"]).container();
        let run = container.run();
        assert_ne!(run.code(), 0, "{run}");
    }
    assert!(before == fs::read(&runtime().program).unwrap());
}

/// CVE-2024-21626: a working directory through a descriptor of the host.
fn a_working_directory_through_a_descriptor() {
    for number in 3..16 {
        let cwd = format!("/proc/self/fd/{number}");
        let container = with_all_capabilities()
            .set("/process/cwd", cwd)
            .probe(&["report"])
            .container();
        container.run().fails(1, "");
        let container = Bundle::new().probe(&["pause"]).container();
        if number % 4 == 3 {
            container.run_detached().ok();
            let cwd = format!("/proc/self/fd/{number}");
            container
                .exec_with(&["--cwd", &cwd], &["report"])
                .fails(255, "");
        }
    }
}

/// CVE-2022-29162 and its kin: exec gives no inheritable capabilities.
fn exec_gives_no_inheritable_capabilities() {
    let container = with_all_capabilities().probe(&["pause"]).container();
    container.run_detached().ok();
    let report = container
        .exec_with(&["--cap", "CAP_NET_RAW"], &["report"])
        .ok()
        .value();
    assert_eq!(report["capabilities"]["inheritable"], json!([]));
}

fn passwd_that_is_a_link_is_read_inside_only() {
    let bundle = Bundle::new();
    let stolen = bundle.path().join("passwd");
    fs::write(&stolen, "root:x:0:0::/stolen:/bin/sh\n").unwrap();
    symlink(&stolen, bundle.inside("/etc/passwd")).unwrap();
    let report = bundle.probe(&["report"]).container().run().ok().value();
    assert!(
        report["env"].to_string().contains("\"HOME=/\""),
        "{}",
        report["env"]
    );
}

/// CVE-2025-31133: /dev/null of the image, swapped for a link, must not become the source of a mask. In the place of a
/// default device it is refused; where `/dev` is a volume, and nothing is made in it, see `escapes`.
fn a_false_dev_null_masks_nothing_else() {
    let mut bundle = with_all_capabilities();
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    fs::write(bundle.inside("/etc/target"), "the target").unwrap();
    fs::write(bundle.inside("/etc/secret"), "secret").unwrap();
    symlink("/etc/target", bundle.inside("/dev/null")).unwrap();
    let bundle = bundle
        .set("/linux/maskedPaths", json!(["/etc/secret"]))
        .set("/root/readonly", false);
    let run = bundle.probe(&["read", "/etc/secret"]).container().run();
    if runtime().kind == Kind::Ocirun {
        run.fails(1, "default devices: mknodat(\"null\")");
    } else if run.signal().is_none() && run.code() == 0 {
        assert_eq!(run.value(), "");
    }
}

fn a_hostile_proc_behind_a_link_in_the_path() {
    let bundle = Bundle::new().set("/root/readonly", false);
    symlink("/proc", bundle.inside("/alias")).unwrap();
    let source = bundle.path().join("source");
    fs::create_dir(&source).unwrap();
    let mount = json!({"destination": "/alias/self/attr", "type": "bind", "source": source, "options": ["bind"]});
    bundle.mount(mount).container().run().fails(1, "");
}

fn the_state_directory_is_not_for_others() {
    let parent = Bundle::new().container();
    let root = parent.file("state");
    let call = |verb: &str| {
        ocirun_tests::Invocation::new(&runtime().program)
            .arg("--root")
            .arg(&root)
            .arg(verb)
    };
    call("create")
        .arg("--bundle")
        .arg(parent.bundle.path())
        .arg(&parent.id)
        .finish()
        .ok();
    let mode = fs::metadata(&root).unwrap().mode() & 0o7777;
    call("delete").arg(&parent.id).finish().ok();
    assert_eq!(mode, 0o700);
}

fn no_process_of_the_runtime_is_left_inside() {
    let container: Container = Bundle::new().probe(&["pause"]).container();
    container.run_detached().ok();
    let pids = container
        .command("ps")
        .args(["--format", "json", &container.id])
        .finish()
        .ok()
        .value();
    assert_eq!(pids, json!([container.pid()]));
}

suite! {
    &[Need::Root] => [
        only_standard_descriptors_are_open,
        descriptors_of_a_careless_caller_stay_outside,
        descriptors_of_a_careless_caller_of_exec_stay_outside,
        preserved_descriptors_are_those_asked_for,
        listen_fds_are_passed_on,
        only_its_own_processes_are_visible,
        the_kernel_cannot_be_written_to,
        capabilities_of_the_host_are_refused,
        the_root_is_the_rootfs,
        the_program_of_the_runtime_cannot_be_overwritten,
        the_runtime_as_its_own_payload_harms_nothing,
        a_working_directory_through_a_descriptor,
        exec_gives_no_inheritable_capabilities,
        passwd_that_is_a_link_is_read_inside_only,
        a_hostile_proc_behind_a_link_in_the_path,
        the_state_directory_is_not_for_others,
        no_process_of_the_runtime_is_left_inside,
    ],
    &[Need::Root, Need::NotRunc("1.1.5 does not look whether they are open")] => [a_preserved_descriptor_that_is_not_open],
    &[Need::Root, Need::NotRunc("1.1.5 is open to CVE-2025-31133")] => [a_false_dev_null_masks_nothing_else],
}
