//! Attacks of past years, by what they turn against the host: the runtime's own process and program, false file
//! systems, links, devices. Which vulnerability each is of is in `security_ledger.rs`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, major, makedev, mknod};
use ocirun_tests::{
    Bundle, ConsoleSocket, Container, Invocation, Kind, Need, Outside, PROBE, Running,
    differs_on_runc, runtime, suite,
};
use serde_json::{Value, json};

/// Everything that root of a container may be given without being root of the host.
fn strong() -> Bundle {
    let names = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SYS_PTRACE",
        "CAP_SYS_CHROOT",
        "CAP_MKNOD",
    ];
    let bundle = Bundle::new().capabilities(&names);
    bundle.set("/root/readonly", false)
}

/// A user namespace in which no id changes: the kernel's own protections, which come with a change, do not set in.
fn same_ids(bundle: Bundle) -> Bundle {
    let maps = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    let bundle = bundle.namespace(json!({"type": "user"}));
    bundle
        .set("/linux/uidMappings", maps.clone())
        .set("/linux/gidMappings", maps)
}

/// An attack that goes on inside a container until it is told to stop.
struct Attack {
    container: Container,
    run: Running,
}

impl Attack {
    fn start(bundle: Bundle, steps: &[&str]) -> Self {
        let steps = [&["print", "ready", ","], steps, &["/stop"]].concat();
        let container = bundle.probe(&steps).container();
        let run = container.run_until_ready();
        Self { container, run }
    }

    fn stop(self) -> (Container, Value) {
        fs::write(self.container.bundle.inside("/stop"), "").unwrap();
        let values = self.run.finish().ok().values();
        (self.container, values[1].clone())
    }
}

/// Processes that join have descriptors and a view of the host until they are confined.
fn nobody_looks_into_a_process_that_joins() {
    let attack = Attack::start(same_ids(strong()), &["pry"]);
    for _ in 0..60 {
        attack.container.exec(&["print", "x"]).ok();
    }
    let (_, told) = attack.stop();
    assert!(told["processes"].as_u64().unwrap() > 10, "{told}");
    assert_eq!(told["found"], json!([]), "{told}");
}

/// So has the first process of a container that is made in the namespaces of another, as those of a pod are.
fn nobody_looks_into_a_process_made_beside() {
    let attack = Attack::start(same_ids(strong()), &["pry"]);
    let pid = attack.container.pid();
    for _ in 0..30 {
        let mut bundle = same_ids(strong()).probe(&["print", "x"]);
        for namespace in bundle.spec["linux"]["namespaces"].as_array_mut().unwrap() {
            let kind = namespace["type"].as_str().unwrap().to_owned();
            if kind == "pid" || kind == "user" {
                namespace["path"] = json!(format!("/proc/{pid}/ns/{kind}"));
            }
        }
        if !differs_on_runc("1.1.5 wants the maps beside the path") {
            bundle = bundle
                .remove("/linux/uidMappings")
                .remove("/linux/gidMappings");
        }
        bundle.container().run().ok();
    }
    let (_, told) = attack.stop();
    assert!(told["processes"].as_u64().unwrap() > 5, "{told}");
    assert_eq!(told["found"], json!([]), "{told}");
}

/// Before `start` a process of the container may be there already, and see that which waits.
fn nobody_looks_into_a_process_that_waits() {
    let container = same_ids(strong()).probe(&["print", "x"]).container();
    container.create().ok();
    fs::write(container.bundle.inside("/stop"), "").unwrap();
    let told = container.exec(&["pry", "/stop"]).ok().value();
    assert_eq!(
        (&told["processes"], &told["found"]),
        (&json!(1), &json!([]))
    );
}

/// A program of the container that is the runtime's own, or a script for it: whoever opens it cannot write it.
fn the_program_cannot_be_seized() {
    let attack = Attack::start(strong(), &["seize"]);
    let container = &attack.container;
    let script = container.bundle.inside("/script");
    fs::write(&script, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    // What is attacked is a copy: the tests are not to lose their runtime.
    let name = runtime().program.file_name().unwrap();
    let copy = container.bundle.path().join(name);
    fs::copy(&runtime().program, &copy).unwrap();
    let before = fs::read(&copy).unwrap();
    for program in ["/proc/self/exe", "/script"].repeat(20) {
        let call = Invocation::new(&copy)
            .arg("--root")
            .arg(container.state_root());
        let exec = call.args(["exec", &container.id, program, "features"]);
        let _status = exec.finish();
    }
    let (_container, told) = attack.stop();
    assert!(before == fs::read(&copy).unwrap(), "overwritten: {told}");
    assert_eq!(told["written"], 0, "{told}");
    assert!(told["programs"].as_u64().unwrap() > 0, "{told}");
}

/// A loader of the image would run with what the runtime has.
fn the_program_needs_no_loader_of_the_image() {
    let bundle = strong();
    for path in ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"] {
        let path = bundle.inside(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(bundle.inside(PROBE), path).unwrap();
    }
    let container = bundle
        .args(&["/proc/self/exe", "print", "loaded"])
        .container();
    let run = container.run();
    assert!(!run.stdout().contains("loaded"), "{run}");
    assert_ne!(run.code(), 0);
}

/// Labels and parameters are written to files of procfs: one that is not the kernel's must not stand there.
fn a_false_proc_is_refused() {
    let bundle = strong();
    let volume = bundle.path().join("volume");
    fs::create_dir_all(volume.join("self/attr")).unwrap();
    fs::write(volume.join("self/attr/exec"), "").unwrap();
    for (kind, options) in [("bind", json!(["bind"])), ("tmpfs", json!([]))] {
        let mut bundle = strong();
        let mount =
            json!({"destination": "/proc", "type": kind, "source": volume, "options": options});
        bundle.spec["mounts"][0] = mount;
        let run = bundle.container().run();
        let words = if differs_on_runc("1.1.5 fails for want of it") {
            ""
        } else {
            "cannot be mounted because it is not of type proc"
        };
        run.fails(1, words);
    }
}

/// Without a procfs of the container's own, the image's files at these paths get nothing.
fn a_false_proc_takes_no_kernel_parameter() {
    let mut bundle = strong().set("/linux/maskedPaths", json!([]));
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/proc");
    let file = bundle.inside("/proc/sys/net/ipv4/ip_default_ttl");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "of the image").unwrap();
    let bundle = bundle
        .set("/linux/readonlyPaths", json!([]))
        .set("/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "33"}));
    let container = bundle.probe(&["pause"]).container();
    container.run_until_ready_detached();
    assert_eq!(fs::read_to_string(&file).unwrap(), "of the image");
    let namespace = format!("--net=/proc/{}/ns/net", container.pid());
    let asked = Invocation::new("nsenter".as_ref())
        .args([&namespace, "cat", "/proc/sys/net/ipv4/ip_default_ttl"])
        .finish();
    assert_eq!(asked.ok().stdout(), "33\n");
}

/// Device nodes and links are made in the container, wherever its `/dev` says that it is.
fn a_dev_that_is_a_link_stays_inside() {
    for up in ["", "../../../../../../../../.."] {
        let mut bundle = strong();
        let outside = Outside::below(bundle.path());
        let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        fs::remove_dir(bundle.inside("/dev")).unwrap();
        let target = format!("{up}{}", outside.path().display());
        symlink(target, bundle.inside("/dev")).unwrap();
        let container = bundle.set("/linux/maskedPaths", json!([])).container();
        let _refused_or_inside = container.run();
        outside.assert_untouched();
    }
}

/// What masks a file is the host's null device: that of the image may be a link to what is to be had.
fn a_false_null_device_masks_nothing_else() {
    for is_link in [true, false] {
        let bundle = strong();
        let dev = bundle.path().join("dev");
        fs::create_dir(&dev).unwrap();
        if is_link {
            symlink("/etc/target", dev.join("null")).unwrap();
        } else {
            fs::write(dev.join("null"), "false").unwrap();
        }
        fs::write(bundle.inside("/etc/target"), "the target").unwrap();
        fs::write(bundle.inside("/etc/secret"), "secret").unwrap();
        let mut bundle = bundle.set("/linux/maskedPaths", json!(["/etc/secret"]));
        let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        let bundle = bundle.mount(
            json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["bind"]}),
        );
        let steps = [
            "read",
            "/etc/secret",
            ",",
            "overwrite",
            "/etc/secret",
            "x",
            ",",
            "read",
            "/etc/target",
        ];
        let container = bundle.probe(&steps).container();
        let values = container.run().ok().values();
        assert_eq!((&values[0], &values[2]), (&json!(""), &json!("the target")));
    }
}

/// A host whose own null device is something else has nothing to mask files with.
fn a_host_without_a_null_device_masks_nothing() {
    let bundle = strong().set("/linux/maskedPaths", json!(["/etc/secret"]));
    fs::write(bundle.inside("/etc/secret"), "secret").unwrap();
    let false_null = bundle.path().join("null");
    fs::write(&false_null, "false").unwrap();
    let container = bundle.probe(&["read", "/etc/secret"]).container();
    let words = format!(
        "mount --bind {} /dev/null && exec {} --root {} run --bundle {} {}",
        false_null.display(),
        runtime().program.display(),
        container.state_root().display(),
        container.bundle.path().display(),
        container.id,
    );
    let call = Invocation::new("unshare".as_ref()).args(["-m", "sh", "-c", &words]);
    call.finish().fails(1, "open_tree(\"/dev/null\")");
}

fn bound_dev(dev: &Path, bundle: Bundle) -> Container {
    let mut bundle = bundle.set("/process/terminal", true);
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    for mount in mounts
        .iter_mut()
        .filter(|mount| mount["destination"] == "/dev")
    {
        *mount = json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["bind"]});
    }
    bundle.container()
}

fn create_with_a_terminal(container: &Container) -> ocirun_tests::Finished {
    let socket = ConsoleSocket::bind(container.file("console"));
    let path = socket.path().to_str().unwrap();
    container
        .from_bundle("create", &["--console-socket", path])
        .finish()
}

/// The console is mounted on a file of that name, not on what a link of that name leads to.
fn a_console_that_is_a_link_is_refused() {
    let bundle = strong();
    let dev = bundle.path().join("dev");
    for name in ["pts", "shm", "mqueue"] {
        fs::create_dir_all(dev.join(name)).unwrap();
    }
    symlink("pts/ptmx", dev.join("ptmx")).unwrap();
    symlink("/proc/sys/kernel/hostname", dev.join("console")).unwrap();
    let container = bound_dev(&dev, bundle);
    let create = create_with_a_terminal(&container);
    create.fails(1, "/dev/console");
}

/// A terminal comes from a devpts. A file of the image's at its place is none, nor is what a link leads to, nor a node
/// beside a devpts that the kernel would take for its own.
fn a_false_ptmx_is_refused() {
    for (kind, words) in [
        ("link", "openat2(\"/dev/pts/ptmx\")"),
        ("file", "not of devpts"),
        ("node", "not of devpts"),
    ] {
        if kind == "node" && runtime().kind != Kind::Ocirun {
            // runc 1.1.5 and crun 1.8.1 take the terminal.
            continue;
        }
        let bundle = strong();
        let dev = bundle.path().join("dev");
        for name in ["pts", "shm", "mqueue"] {
            fs::create_dir_all(dev.join(name)).unwrap();
        }
        let ptmx = dev.join("pts/ptmx");
        match kind {
            "link" => symlink("/etc/target", ptmx).unwrap(),
            "file" => fs::write(ptmx, "").unwrap(),
            _ => {
                let mode = Mode::from_bits_truncate(0o666);
                mknod(&ptmx, SFlag::S_IFCHR, mode, makedev(5, 2)).unwrap();
                fs::create_dir(dev.join("pts/pts")).unwrap();
            }
        }
        symlink("pts/ptmx", dev.join("ptmx")).unwrap();
        fs::write(bundle.inside("/etc/target"), "the target").unwrap();
        let mut container = bundle;
        let mounts = container.spec["mounts"].as_array_mut().unwrap();
        if kind == "node" {
            let pts = mounts
                .iter_mut()
                .find(|mount| mount["destination"] == "/dev/pts");
            pts.unwrap()["destination"] = json!("/dev/pts/pts");
        } else {
            mounts.retain(|mount| mount["destination"] != "/dev/pts");
        }
        let container = bound_dev(&dev, container);
        let words = if runtime().kind == Kind::Ocirun {
            words
        } else {
            ""
        };
        create_with_a_terminal(&container).fails(1, words);
        let target = fs::read_to_string(container.bundle.inside("/etc/target")).unwrap();
        assert_eq!(target, "the target");
    }
}

/// The other end of a terminal is asked of its master: names in a volume may be links.
fn a_slave_is_not_looked_up_by_name() {
    let bundle = strong();
    let dev = bundle.path().join("dev");
    for name in ["pts", "shm", "mqueue"] {
        fs::create_dir_all(dev.join(name)).unwrap();
    }
    fs::write(bundle.inside("/etc/target"), "the target").unwrap();
    fs::create_dir(dev.join("pts/pts")).unwrap();
    fs::write(dev.join("pts/ptmx"), "").unwrap();
    for number in 0..256 {
        symlink("/etc/target", dev.join(format!("pts/{number}"))).unwrap();
    }
    let mut bundle = bundle;
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/dev/pts");
    // A master that is on a devpts, in a directory that is none. The kernel looks for the slaves beside it.
    let bind = |at: &str, from: &str| json!({"destination": at, "type": "bind", "source": from, "options": ["bind"]});
    let bundle = bundle
        .mount(bind("/dev/pts/pts", "/dev/pts"))
        .mount(bind("/dev/pts/ptmx", "/dev/pts/ptmx"));
    let container = bound_dev(&dev, bundle);
    create_with_a_terminal(&container).ok();
    let input = fs::metadata(format!("/proc/{}/fd/0", container.pid())).unwrap();
    assert_eq!(major(input.rdev()), UNIX98_PTY_SLAVE_MAJOR);
}

/// Of the kernel: slaves of pseudo-terminals.
const UNIX98_PTY_SLAVE_MAJOR: u64 = 136;

/// What is missing of a mount's target is made in the container, wherever links lead.
fn missing_targets_are_made_inside() {
    for up in ["", "../../../../../../../../.."] {
        let bundle = strong();
        let outside = Outside::below(bundle.path());
        let target = format!("{up}{}/new", outside.path().display());
        symlink(&target, bundle.inside("/directory")).unwrap();
        symlink(&target, bundle.inside("/file")).unwrap();
        let mount = |at: &str, source: &str| json!({"destination": at, "type": "bind", "source": source, "options": ["bind"]});
        let bundle = bundle
            .mount(mount("/directory/below", "/usr"))
            .mount(mount("/file/name", "/etc/passwd"));
        let container = bundle.probe(&["print", "x"]).container();
        container.run().ok();
        outside.assert_untouched();
    }
}

/// Descriptors lead back to the host by `..` from what they stand for: as a working directory behind a link.
fn a_working_directory_behind_a_link() {
    for number in 3..16 {
        let bundle = strong();
        symlink(format!("/proc/self/fd/{number}"), bundle.inside("/work")).unwrap();
        let container = bundle.set("/process/cwd", "/work").container();
        container.run().fails(1, "");
    }
    let bundle = strong();
    for number in 3..16 {
        let link = bundle.inside(&format!("/work{number}"));
        symlink(format!("/proc/self/fd/{number}"), link).unwrap();
    }
    let container = bundle.probe(&["pause"]).container();
    container.run_until_ready_detached();
    for number in 3..16 {
        let cwd = format!("/work{number}");
        container
            .exec_with(&["--cwd", &cwd], &["report"])
            .fails(255, "");
    }
}

/// And as the way to the program, which would be one of the host's.
fn a_program_through_a_descriptor() {
    let up = "../".repeat(12);
    let host = |bundle: &Bundle| {
        let program = bundle.path().join("of-the-host");
        fs::copy(bundle.inside(PROBE), &program).unwrap();
        program
    };
    for number in 3..20 {
        let bundle = strong();
        let path = format!("/proc/self/fd/{number}/{up}{}", host(&bundle).display());
        let container = bundle.args(&[&path, "print", "escaped"]).container();
        let run = container.run();
        assert!(!run.stdout().contains("escaped"), "{run}");
        assert_ne!(run.code(), 0);
    }
    let container = strong().probe(&["pause"]).container();
    let host = host(&container.bundle);
    container.run_until_ready_detached();
    for number in 3..20 {
        let path = format!("/proc/self/fd/{number}/{up}{}", host.display());
        let call = container.command("exec").arg(&container.id);
        let run = call.args([&path, "print", "escaped"]).finish();
        assert!(!run.stdout().contains("escaped"), "{run}");
        assert_eq!(run.code(), 255);
    }
}

/// Nor through what a careless caller leaves open, and only the new program would not have.
fn a_program_through_a_descriptor_of_a_careless_caller() {
    let path = "/proc/self/fd/7/of-the-host";
    let running = strong().probe(&["pause"]).container();
    running.run_until_ready_detached();
    let new = strong().args(&[path, "print", "escaped"]).container();
    let of_new = format!("run --bundle {} {}", new.bundle.path().display(), new.id);
    let of_running = format!("exec {} {path} print escaped", running.id);
    for (container, verb) in [(&new, of_new), (&running, of_running)] {
        let directory = container.bundle.path();
        fs::copy(
            container.bundle.inside(PROBE),
            directory.join("of-the-host"),
        )
        .unwrap();
        let words = format!(
            "exec {} --root {} {verb} 7<{}",
            runtime().program.display(),
            container.state_root().display(),
            directory.display(),
        );
        let run = Invocation::new("sh".as_ref()).args(["-c", &words]).finish();
        assert!(!run.stdout().contains("escaped"), "{run}");
        assert_ne!(run.code(), 0);
    }
}

/// A directory of the host that the caller passes on is the program's to use, and no working directory.
fn a_passed_directory_is_no_working_directory() {
    let bundle = strong().set("/process/cwd", "/proc/self/fd/3");
    let container = bundle.probe(&["list", "."]).container();
    let words = format!(
        "exec {} --root {} run --preserve-fds 1 --bundle {} {} 3<{}",
        runtime().program.display(),
        container.state_root().display(),
        container.bundle.path().display(),
        container.id,
        container.bundle.path().display(),
    );
    let run = Invocation::new("sh".as_ref()).args(["-c", &words]).finish();
    run.fails(1, "");
}

/// Where there is no cgroup namespace, what is mounted ends at the container's own cgroups, writable or not.
fn a_cgroup_mount_ends_at_its_own() {
    let bundle = strong();
    let own = bundle.cgroup().path().to_owned();
    let mut bundle = bundle.probe(&["report"]);
    for mount in bundle.spec["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["nosuid", "noexec", "nodev"]);
        }
    }
    let report = bundle.container().run().ok().value();
    let mounts = report["mounts"].as_array().unwrap();
    let views: Vec<&Value> = mounts
        .iter()
        .filter(|mount| mount["type"] == "cgroup")
        .collect();
    assert!(!views.is_empty(), "{report}");
    for view in views {
        assert_eq!(view["root"], own, "{view}");
    }
}

/// A number that is a name of the image's, and a name: only numbers are users.
fn exec_takes_no_user_of_the_image() {
    let bundle = strong();
    fs::write(
        bundle.inside("/etc/passwd"),
        "1000:x:0:0::/evil:/bin/sh\nevil:x:0:0::/:/bin/sh\n",
    )
    .unwrap();
    fs::write(bundle.inside("/etc/group"), "1000:x:0:1000\n").unwrap();
    let container = bundle.probe(&["pause"]).container();
    container.run_until_ready_detached();
    let report = container
        .exec_with(&["--user", "1000"], &["report"])
        .ok()
        .value();
    assert_eq!(report["uids"], json!([1000, 1000, 1000, 1000]));
    assert_eq!(report["groups"], json!([]));
    assert!(
        !report["env"].to_string().contains("/evil"),
        "{}",
        report["env"]
    );
    container
        .exec_with(&["--user", "evil"], &["report"])
        .fails(255, "");
}

const RUNC_AND_DEV: Need = Need::NotRunc("1.1.5 is open to CVE-2026-41579");
const CRUN_AND_DEV: Need = Need::NotCrun("1.8.1 is open to CVE-2026-47766");
const RUNC_AND_PROC: Need = Need::NotRunc("1.1.5 is open to CVE-2025-52881, and needs /proc");

suite! {
    &[Need::Root] => [
        the_program_cannot_be_seized,
        a_false_proc_is_refused,
        a_false_ptmx_is_refused,
        missing_targets_are_made_inside,
        a_working_directory_behind_a_link,
        a_program_through_a_descriptor,
        a_program_through_a_descriptor_of_a_careless_caller,
        exec_takes_no_user_of_the_image,
    ],
    &[Need::Root, Need::NotCrun("1.8.1 takes it")] => [a_passed_directory_is_no_working_directory],
    &[Need::Root, Need::UserNamespace] => [nobody_looks_into_a_process_that_joins],
    &[Need::Root, Need::UserNamespace, Need::NotCrun("1.8.1 shows the root of the host")] => [
        nobody_looks_into_a_process_made_beside,
    ],
    &[Need::Root, Need::UserNamespace, Need::NotRunc("1.1.5 shows the files of who waits")] => [
        nobody_looks_into_a_process_that_waits,
    ],
    &[Need::Root, RUNC_AND_DEV, CRUN_AND_DEV] => [a_dev_that_is_a_link_stays_inside],
    &[Need::Root, Need::NotRunc("1.1.5 is open to CVE-2025-31133")] => [a_false_null_device_masks_nothing_else],
    &[Need::Root, Need::Program("unshare"), Need::Ocirun] => [a_host_without_a_null_device_masks_nothing],
    &[Need::Root, Need::Device("/dev/pts/ptmx"), Need::Ocirun] => [a_slave_is_not_looked_up_by_name],
    &[Need::Root, Need::NotRunc("1.1.5 follows the link")] => [a_console_that_is_a_link_is_refused],
    &[Need::Root, Need::Program("nsenter"), RUNC_AND_PROC] => [a_false_proc_takes_no_kernel_parameter],
    &[Need::Root, Need::CgroupV1("pids")] => [a_cgroup_mount_ends_at_its_own],
    &[Need::Root, Need::Ocirun] => [the_program_needs_no_loader_of_the_image],
}
