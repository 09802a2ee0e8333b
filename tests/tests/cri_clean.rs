//! Pods of every kind come and go, and the machine is what it was before: mounts, cgroups, namespaces, processes, files,
//! and the server's own descriptors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, namespaces};
use cri_server::api::{
    ContainerConfig, IdMapping, LinuxContainerResources, Mount, NamespaceMode, PodSandboxConfig,
    UserNamespace,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use ocirun_tests::{Need, Suite, eventually};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long anything may take to vanish.
const PATIENCE: Duration = Duration::from_secs(30);

/// What there is of everything that a pod could leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    /// Lines of the mount table, pinned namespaces among them.
    mounts: BTreeSet<String>,
    /// Directories below the parent of all cgroups of the test.
    cgroups: BTreeSet<PathBuf>,
    /// Command lines of what descends from this process.
    processes: Vec<String>,
    /// What is below the node's directory, but for logs of containers, which are the kubelet's.
    files: BTreeSet<PathBuf>,
    /// Descriptors of the server, by what they lead to.
    descriptors: BTreeMap<String, usize>,
}

impl Traces {
    fn of(node: &Node, cgroup: &str) -> Self {
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let mut cgroups = BTreeSet::new();
        for hierarchy in hierarchies() {
            below(&hierarchy.join(cgroup), &mut cgroups, &|path| path.is_dir());
        }
        let mut files = BTreeSet::new();
        let logs = node.path("logs");
        below(&node.path(""), &mut files, &|path| !path.starts_with(&logs));
        Self {
            mounts: table.lines().map(str::to_owned).collect(),
            cgroups,
            processes: descendants(),
            files,
            descriptors: descriptors(node.pid()),
        }
    }
}

/// Mount points of all hierarchies of cgroups.
fn hierarchies() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let words = table.lines().map(|line| line.split(' '));
    words
        .filter_map(|mut words| {
            let point = words.nth(1)?;
            let is_cgroup = words.next()?.starts_with("cgroup");
            is_cgroup.then(|| point.into())
        })
        .collect()
}

/// All paths below a directory that are `wanted`.
fn below(dir: &Path, found: &mut BTreeSet<PathBuf>, wanted: &dyn Fn(&Path) -> bool) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if !wanted(&path) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&path, found, wanted);
        }
        found.insert(path);
    }
}

/// What descends from this process and has not ended. It is given all whose parents end, and waits for them.
fn descendants() -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parents: BTreeMap<i32, (i32, bool)> = pids.filter_map(parent_of).collect();
    let own = std::process::id().cast_signed();
    let is_below = |pid: &i32| {
        let mut above = parents[pid].0;
        while above != own {
            match parents.get(&above) {
                Some((next, _)) => above = *next,
                None => return false,
            }
        }
        true
    };
    let mut lines = Vec::new();
    for pid in parents.keys().filter(|pid| is_below(pid)) {
        let (parent, has_ended) = parents[pid];
        if has_ended && parent == own {
            // Another may have been quicker.
            let _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
        } else if !has_ended {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            lines.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    lines.sort();
    lines
}

/// A process, its parent, and whether it has ended.
fn parent_of(pid: i32) -> Option<(i32, (i32, bool))> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(") ")?.1.split(' ');
    let has_ended = matches!(words.next()?, "Z" | "X");
    Some((pid, (words.next()?.parse().ok()?, has_ended)))
}

/// How many descriptors a process has of each kind; each file is a kind of its own.
fn descriptors(pid: u32) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let Ok(to) = fs::read_link(entry.path()) else {
            continue;
        };
        let to = to.to_string_lossy();
        let kind = match to.strip_prefix('/') {
            Some(_) => &to,
            None => to.split(":[").next().unwrap(),
        };
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    kinds
}

fn own_network(config: &mut PodSandboxConfig) {
    namespaces(config, |options| {
        options.network = NamespaceMode::Pod.into();
    });
}

fn own_users(config: &mut PodSandboxConfig) {
    let maps = vec![IdMapping {
        host_id: 200_000,
        container_id: 0,
        length: 65_536,
    }];
    own_network(config);
    namespaces(config, |options| {
        options.userns_options = Some(UserNamespace {
            mode: NamespaceMode::Pod.into(),
            uids: maps.clone(),
            gids: maps,
        });
    });
}

type Change<T> = fn(&mut T);

/// A kind of pods.
type Kind = (&'static str, Change<PodSandboxConfig>);

const PODS: &[Kind] = &[
    ("the host's network", |_| {}),
    ("a network of its own", own_network),
    ("shared processes", |config| {
        namespaces(config, |options| options.pid = NamespaceMode::Pod.into());
    }),
    ("the host's namespaces", |config| {
        namespaces(config, |options| {
            options.pid = NamespaceMode::Node.into();
            options.ipc = NamespaceMode::Node.into();
        });
    }),
];

/// Those with users of their own.
const PODS_OF_USERS: &[Kind] = &[
    ("users of its own", own_users),
    ("shared users and processes", |config| {
        own_users(config);
        namespaces(config, |options| options.pid = NamespaceMode::Pod.into());
    }),
];

/// What is refused, or fails on its way.
const BAD_CONTAINERS: [(&str, Change<ContainerConfig>); 6] = [
    ("no such image", |config| {
        config.image = Some(cri::spec("nowhere/nothing:1"));
    }),
    ("no such program", |config| {
        config.command = vec!["/absent".to_owned()];
    }),
    ("no such path in an image", |config| {
        config.mounts = vec![volume(config, "data/absent")];
    }),
    ("a source that cannot be made", |config| {
        config.mounts = vec![Mount {
            container_path: "/x".to_owned(),
            host_path: "/proc/self/absent".to_owned(),
            ..Mount::default()
        }];
    }),
    ("no such user", |config| {
        let linux = config.linux.get_or_insert_default();
        let context = linux.security_context.get_or_insert_default();
        context.run_as_username = "absent".to_owned();
    }),
    ("a log that is a directory", |config| {
        config.log_path = ".".to_owned();
    }),
];

/// An image as a volume.
fn volume(config: &ContainerConfig, sub: &str) -> Mount {
    Mount {
        container_path: "/volume".to_owned(),
        readonly: true,
        image: config.image.clone(),
        image_sub_path: sub.to_owned(),
        ..Mount::default()
    }
}

/// Everything that can happen to a pod, in pods of each kind.
fn live(node: &Node, cgroup: &str, kinds: &[Kind]) {
    for (place, (kind, change)) in kinds.iter().enumerate() {
        let pod = node.pod(|config| {
            config.linux.get_or_insert_default().cgroup_parent = format!("/{cgroup}");
            change(config);
        });
        let first = node.run(&pod, "while :; do sleep 1; done", |config| {
            config.mounts = vec![volume(config, "data/sub")];
            config.stdin = true;
        });
        let seen = node
            .exec(&first, "cat /volume/hello; sleep 1000 &")
            .unwrap();
        assert_eq!(seen.stdout, b"hello\n", "{kind}");
        node.exec_within(&first, "sleep 1000 & sleep 1000", 1)
            .unwrap_err();
        node.output(&pod, "sleep 1000 & echo x; touch /new", |_| {});
        let killed = node.run(&pod, "x=a; while :; do x=$x$x; done", |config| {
            config.linux.get_or_insert_default().resources = Some(LinuxContainerResources {
                memory_limit_in_bytes: 16 << 20,
                memory_swap_limit_in_bytes: 16 << 20,
                ..LinuxContainerResources::default()
            });
        });
        assert_eq!(node.ended(&killed).exit_code, 137, "{kind}");
        node.try_create(&pod, node.container_config("never"))
            .unwrap();
        for (kind, change) in BAD_CONTAINERS {
            let mut config = node.container_config("true");
            change(&mut config);
            node.try_create(&pod, config).expect_err(kind);
        }
        if place == 0 {
            kill_shim(node, &pod);
            eventually("another shim serves", || node.exec(&first, "true").is_ok());
        }
        node.stop(&killed, 0).unwrap();
        node.remove(&killed).unwrap();
        node.stop_pod(&pod).unwrap();
        node.remove_pod(&pod);
    }
    node.try_pod(|config| {
        own_network(config);
        let linux = config.linux.get_or_insert_default();
        linux.cgroup_parent = format!("/{cgroup}");
        linux.sysctls.insert("net.no.such".into(), "1".into());
    })
    .expect_err("no such sysctl");
}

fn kill_shim(node: &Node, pod: &str) {
    let file = node.path("run/pods").join(pod).join("shim.pid");
    let pid = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// The traces once they are as `wanted`; what they are after a while if they never get so. A connection, or a process,
/// may end a moment after its pod.
fn settled(node: &Node, cgroup: &str, wanted: impl Fn(&Traces) -> bool) -> Traces {
    let end = Instant::now() + PATIENCE;
    loop {
        let traces = Traces::of(node, cgroup);
        if wanted(&traces) || Instant::now() > end {
            return traces;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn everything_is_as_it_was() {
    come_and_go(PODS);
}

fn everything_is_as_it_was_after_users_of_their_own() {
    come_and_go(PODS_OF_USERS);
}

fn come_and_go(kinds: &'static [Kind]) {
    apart(|| {
        set_child_subreaper(true).unwrap();
        // In the way of systemd, where it makes them.
        let cgroup = format!("criclean{}.slice", std::process::id());
        let node = Node::ready();
        let at_first = Traces::of(&node, &cgroup);
        // What is there from the first pod on, such as directories.
        live(&node, &cgroup, kinds);
        let before = settled(&node, &cgroup, |traces| {
            traces.processes == at_first.processes
        });
        assert_eq!(before.processes, at_first.processes);
        assert_eq!(before.mounts, at_first.mounts);
        assert_eq!(before.cgroups.len(), 0);
        live(&node, &cgroup, kinds);
        assert_eq!(settled(&node, &cgroup, |traces| *traces == before), before);
        for hierarchy in hierarchies() {
            drop(fs::remove_dir(hierarchy.join(&cgroup)));
        }
    });
}

/// Cgroups in the place of the machine's own, where nobody else has any. With version 2 alone there are those of all.
struct OwnCgroups(Vec<PathBuf>);

impl OwnCgroups {
    fn new() -> Self {
        let of_version_1 = hierarchies();
        let of_version_1 = of_version_1
            .into_iter()
            .filter(|at| *at != Path::new("/sys/fs/cgroup"));
        let of_version_1 = of_version_1.collect::<Vec<_>>();
        for at in &of_version_1 {
            let own = at.join(Self::name());
            fs::create_dir(&own).unwrap();
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(value) = fs::read_to_string(at.join(file)) {
                    fs::write(own.join(file), value.trim()).unwrap();
                }
            }
            mount(Some(&own), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        }
        Self(of_version_1)
    }

    fn name() -> String {
        format!("cri-clean-{}", std::process::id())
    }
}

impl Drop for OwnCgroups {
    fn drop(&mut self) {
        for at in &self.0 {
            let _ = umount2(at, MntFlags::MNT_DETACH);
            drop(fs::remove_dir(at.join(Self::name())));
        }
    }
}

/// The cgroup above those of pods that name none goes with the last of them.
fn the_parent_of_cgroups_goes_too() {
    apart(|| {
        let _cgroups = OwnCgroups::new();
        // systemd would make others.
        let mut node = Node::ready();
        node.configure("cgroup_driver = \"cgroupfs\"\n");
        let parents = || {
            let all = hierarchies().into_iter().map(|at| at.join("ocirun"));
            all.filter(|path| path.is_dir()).collect::<Vec<_>>()
        };
        assert_eq!(parents(), Vec::<PathBuf>::new());
        let pods = [node.pod(|_| {}), node.pod(|_| {})];
        let ids = pods
            .each_ref()
            .map(|pod| node.run(pod, "sleep 1000", |_| {}));
        let have = |id: &str| parents().iter().any(|parent| parent.join(id).is_dir());
        assert!(ids.iter().all(|id| have(id)));
        node.remove_pod(&pods[0]);
        assert!(!have(&ids[0]) && have(&ids[1]));
        node.remove_pod(&pods[1]);
        assert_eq!(parents(), Vec::<PathBuf>::new());
    });
}

/// One after the other: they look at all that descends from this process.
fn main() -> std::process::ExitCode {
    const NEEDS: &[Need] = &[Need::Root, Need::Program("busybox"), Need::Cgroup("memory")];
    const USERS: &[Need] = &[
        Need::Root,
        Need::Program("busybox"),
        Need::Cgroup("memory"),
        // Layers of an overlay that are mapped.
        Need::Kernel(6, 15),
    ];
    let users = everything_is_as_it_was_after_users_of_their_own;
    Suite::new()
        .sequential()
        .test("everything_is_as_it_was", NEEDS, everything_is_as_it_was)
        .test(
            "everything_is_as_it_was_after_users_of_their_own",
            USERS,
            users,
        )
        .test(
            "the_parent_of_cgroups_goes_too",
            NEEDS,
            the_parent_of_cgroups_goes_too,
        )
        .run()
}
