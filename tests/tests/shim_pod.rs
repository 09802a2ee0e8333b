//! The pod itself: its namespaces, its `/dev/shm`, its PID 1, and that nothing of it stays.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nix::unistd::Pid;
use ocirun_shim::wire::{Empty, Namespaces};
use ocirun_tests::pod::{Client, Pod, exec_request, is_alive};
use ocirun_tests::{Bundle, Need, PROBE, eventually, suite};
use serde_json::{Value, json};

fn pausing() -> Bundle {
    Bundle::new().probe(&["pause"])
}

/// Lets a bundle's container join what the pod has.
fn joined(bundle: Bundle, namespaces: &Namespaces) -> Bundle {
    let all = [
        ("network", &namespaces.network),
        ("ipc", &namespaces.ipc),
        ("uts", &namespaces.uts),
        ("user", &namespaces.user),
        ("pid", &namespaces.pid),
    ];
    let mut bundle = bundle.remove("/hostname");
    for (kind, path) in all {
        if !path.is_empty() {
            bundle = bundle
                .without_namespace(kind)
                .namespace(json!({"type": kind, "path": path}));
        }
    }
    bundle
}

fn namespaces(client: &mut Client) -> Namespaces {
    client.state().pod.unwrap().namespaces.unwrap()
}

/// What the probe reports from inside a container.
fn report(client: &mut Client, id: &str) -> Value {
    let output = client.exec(&exec_request(id, &[PROBE, "report"])).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn containers_share_the_namespaces_of_their_pod() {
    let network = format!("/run/netns/ocirun-test-{}", std::process::id());
    let pod = Pod::with(&json!({
        "namespaces": {"network": true, "ipc": true, "uts": true},
        "networkPath": network,
        "hostname": "pod-1",
        "sysctls": {"net.ipv4.ip_unprivileged_port_start": "7", "kernel.shm_rmid_forced": "1"},
        "shmSize": 1 << 20,
    }));
    let mut client = pod.client();
    let paths = namespaces(&mut client);
    assert_eq!(paths.network, network);
    let bundles = [pausing(), pausing()].map(|bundle| joined(bundle, &paths));
    client.run(&pod.request("a", &bundles[0]));
    client.run(&pod.request("b", &bundles[1]));
    let of = |id: &str, kind: &str, client: &mut Client| {
        let pid = client.container(id).unwrap().pid;
        fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
    };
    for kind in ["net", "ipc", "uts"] {
        let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let (a, b) = (of("a", kind, &mut client), of("b", kind, &mut client));
        assert!(a == b && a != own, "{kind}: {a:?} {b:?}");
    }
    let words = [
        PROBE,
        "read",
        "/proc/sys/kernel/hostname",
        ",",
        "read",
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        ",",
        "read",
        "/proc/sys/kernel/shm_rmid_forced",
    ];
    let output = client.exec(&exec_request("a", &words)).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let values: Vec<&str> = text.lines().collect();
    assert_eq!(values, [r#""pod-1\n""#, r#""7\n""#, r#""1\n""#]);
    let interfaces = report(&mut client, "a");
    assert_eq!(interfaces["interfaces"], json!(["lo"]));
    let shm = nix::sys::statvfs::statvfs(Path::new(&paths.shm)).unwrap();
    assert_eq!(shm.blocks() * shm.fragment_size(), 1 << 20);
    client.call("Shutdown", &Empty {}).unwrap();
    assert!(!Path::new(&network).exists());
}

fn a_user_namespace_owns_the_others() {
    let pod = Pod::with(&json!({
        "namespaces": {"user": true, "network": true, "ipc": true, "uts": true},
        "hostname": "mapped",
        "sysctls": {"net.ipv4.ip_unprivileged_port_start": "7"},
        "uidMappings": [{"containerID": 0, "hostID": 200_000, "size": 65536}],
        "gidMappings": [{"containerID": 0, "hostID": 300_000, "size": 65536}],
    }));
    let mut client = pod.client();
    let paths = namespaces(&mut client);
    let bundle = joined(pausing(), &paths);
    let created = client.run(&pod.request("c", &bundle));
    let status = fs::read_to_string(format!("/proc/{}/status", created.pid)).unwrap();
    assert!(status.contains("Uid:\t200000"), "{status}");
    assert!(status.contains("Gid:\t300000"), "{status}");
    let words = [PROBE, "print", "inside"];
    let output = client.exec(&exec_request("c", &words)).unwrap();
    assert_eq!(output.stdout, b"\"inside\"\n");
    let owner = fs::metadata(&paths.shm).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((owner.uid(), owner.gid()), (200_000, 300_000));
    eventually("it is logged", || {
        pod.log("c").matches("ready").count() == 1
    });
}

fn a_shared_pid_namespace_has_a_first_process() {
    let cgroup = format!("/ocirun-test-init-{}", std::process::id());
    let pod = Pod::with(&json!({
        "namespaces": {"pid": true, "ipc": true},
        "cgroupsPath": cgroup,
    }));
    let mut client = pod.client();
    let state = client.state().pod.unwrap();
    let init = Pid::from_raw(state.init_pid);
    let paths = state.namespaces.unwrap();
    let bundles = [pausing(), Bundle::new().probe(&["orphans", "2"])];
    let bundles = bundles.map(|bundle| joined(bundle, &paths));
    client.run(&pod.request("a", &bundles[0]));
    let found = report(&mut client, "a");
    assert_ne!(found["pid"], 1, "{found}");
    // What is left of a container that ends is ended, and its PID 1 reaps.
    client.run(&pod.request("b", &bundles[1]));
    assert_eq!(client.wait("b").code, 0);
    assert!(bundles[1].cgroup().processes().is_empty());
    let children = format!("/proc/{init}/task/{init}/children");
    eventually("nobody waits to be reaped", || {
        let children = fs::read_to_string(&children).unwrap();
        children
            .split_whitespace()
            .all(|pid| is_alive(Pid::from_raw(pid.parse().unwrap())))
    });
    // It shows nothing of the host to the pod, and holds nothing of it.
    let root: Vec<_> = fs::read_dir(format!("/proc/{init}/root"))
        .unwrap()
        .collect();
    let names: Vec<_> = root
        .into_iter()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        names.iter().all(|name| name == "dev" || name == "proc"),
        "{names:?}"
    );
    for fd in 0..3 {
        let to =
            fs::read_link(format!("/proc/{init}/fd/{fd}")).unwrap_or_else(|_| "/dev/null".into());
        assert_eq!(to, Path::new("/dev/null"));
    }
    pod.replace_shim();
    let mut client = pod.client();
    assert_eq!(client.state().pod.unwrap().init_pid, init.as_raw());
    client.call("Shutdown", &Empty {}).unwrap();
    assert!(!is_alive(init));
    let left = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    for hierarchy in left {
        let path = hierarchy.path().join(cgroup.trim_start_matches('/'));
        assert!(!path.exists(), "{path:?}");
    }
}

fn a_pod_that_cannot_be_is_refused_and_leaves_nothing() {
    for (file, words) in [
        (json!({"unknown": 1}), "unknown field `unknown`"),
        (
            json!({"namespaces": {"user": true}}),
            "needs uidMappings and gidMappings",
        ),
        (
            json!({"namespaces": {"ipc": true}, "networkPath": "/run/netns/x"}),
            "networkPath needs a network namespace",
        ),
        (
            json!({"namespaces": {"ipc": true}, "hostname": "h"}),
            "the UTS namespace is the host's",
        ),
        (
            json!({"namespaces": {"ipc": true}, "sysctls": {"net.ipv4.ip_forward": "1"}}),
            "not allowed in the hosts network namespace",
        ),
        (
            json!({"namespaces": {"network": true, "ipc": true}, "sysctls": {"net.no.such": "1"}}),
            "linux.sysctl \"net.no.such\": open(",
        ),
    ] {
        let pod = Pod::not_started(&file);
        let output = pod.start_shim();
        assert_eq!(output.status.code(), Some(1), "{file}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.starts_with("ocirun-shim: "), "{said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{said}");
        assert_eq!(mounts_below(pod.directory.path()), 0, "{said}");
        assert!(!pod.directory.path().join("ns").exists(), "{said}");
    }
}

fn mounts_below(path: &Path) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = path.to_str().unwrap();
    table.lines().filter(|line| line.contains(path)).count()
}

/// Processes that have a file below `path` open, or name it.
fn processes_at(path: &Path) -> BTreeSet<i32> {
    let text = path.to_str().unwrap();
    let is_at = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let fds = fs::read_dir(format!("/proc/{pid}/fd"));
        let mut fds = fds.into_iter().flatten().flatten();
        *pid != std::process::id().cast_signed()
            && (String::from_utf8_lossy(&words).contains(text)
                || fds.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(path))))
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_at).collect()
}

fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn nothing_stays() {
    let pod = Pod::with(&json!({"namespaces": {"network": true, "ipc": true, "uts": true}}));
    let mut client = pod.client();
    let paths = namespaces(&mut client);
    let shim = pod.shim_pid();
    let before = descriptors(shim);
    let bundles: Vec<Bundle> = (0..4)
        .map(|number| {
            let bundle = joined(pausing(), &paths);
            let bundle = bundle.set("/process/terminal", number % 2 == 0);
            bundle.mount(
                json!({"destination": "/dev/shm", "type": "bind", "source": paths.shm,
                "options": ["rbind"]}),
            )
        })
        .collect();
    for round in 0..5 {
        for (number, bundle) in bundles.iter().enumerate() {
            let id = format!("c{number}");
            client.run(&pod.request(&id, bundle));
            let words = [PROBE, "print", "x"];
            client.exec(&exec_request(&id, &words)).unwrap();
        }
        for number in 0..bundles.len() {
            let id = format!("c{number}");
            client.stop(&id, 0, 0).unwrap();
            client.delete(&id).unwrap();
        }
        eventually(
            &format!("no descriptor is left after round {round}"),
            || descriptors(shim) == before,
        );
    }
    // A container that still runs goes with the pod.
    client.run(&pod.request("last", &bundles[0]));
    client.call("Shutdown", &Empty {}).unwrap();
    eventually("the shim has ended", || !is_alive(shim));
    assert_eq!(mounts_below(pod.directory.path()), 0);
    eventually("no process is left", || {
        processes_at(pod.directory.path()).is_empty()
    });
    for bundle in &bundles {
        assert_eq!(bundle.cgroup().existing(), Vec::<std::path::PathBuf>::new());
    }
    let mut left: Vec<String> = fs::read_dir(pod.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["pod.json", "shim.log"]);
}

suite! {
    &[Need::Root] => [
        containers_share_the_namespaces_of_their_pod,
        a_shared_pid_namespace_has_a_first_process,
        a_pod_that_cannot_be_is_refused_and_leaves_nothing,
        nothing_stays,
    ],
    &[Need::Root, Need::UserNamespace] => [a_user_namespace_owns_the_others],
}
