//! Plugins of networks: those that fail in every way, and what all of them are told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::network::{Bed, bridge, mapping, one_range};
use cri::{apart, refused};
use ocirun_tests::{Need, eventually, suite};
use serde_json::{Value, json};
use std::net::IpAddr;
use tonic::Code;

fn a_chain_that_fails_is_taken_back() {
    apart(|| {
        let bed = Bed::new("1.0.0", &json!([]));
        bed.configure(
            "1.0.0",
            &json!([bridge(&bed.node, &one_range()), {"type": "fails"}]),
        );
        let bed = bed.start();
        let fail = |error: &str| format!("[ $CNI_COMMAND = DEL ] || {{ {error}; }}");
        bed.plugin(
            "fails",
            &fail(r#"echo '{"code": 100, "msg": "no luck", "details": "at all"}'; exit 1"#),
        );
        let words = "network \"n\": fails ADD: no luck: at all (exit status: 1)";
        refused(bed.try_pod(|_| {}), Code::Unknown, words);
        bed.assert_clean();
        bed.plugin("fails", &fail("echo hello"));
        refused(
            bed.try_pod(|_| {}),
            Code::Unknown,
            "fails ADD: answers with no result",
        );
        bed.assert_clean();
        bed.plugin("fails", &fail("kill -9 $$"));
        refused(bed.try_pod(|_| {}), Code::Unknown, "signal: 9");
        bed.assert_clean();
        bed.plugin("fails", &fail("head -c 10000000 /dev/zero"));
        refused(bed.try_pod(|_| {}), Code::Unknown, "prints more than");
        bed.assert_clean();
        std::fs::remove_file(bed.node.path("bin/fails")).unwrap();
        assert!(
            bed.not_ready()
                .unwrap()
                .contains("fails STATUS: its program is not in")
        );
    });
}

fn a_plugin_that_hangs_is_ended() {
    apart(|| {
        let bed = Bed::new("1.0.0", &json!([]));
        bed.configure(
            "1.0.0",
            &json!([bridge(&bed.node, &one_range()), {"type": "hangs"}]),
        );
        let drop_in = "[network]\nplugin_seconds = 3\n";
        std::fs::write(bed.node.path("cri.d/20.toml"), drop_in).unwrap();
        let bed = bed.start();
        bed.plugin(
            "hangs",
            "[ $CNI_COMMAND = DEL ] || { echo $$ > $log.pid; sleep 4321; }",
        );
        refused(
            bed.try_pod(|_| {}),
            Code::DeadlineExceeded,
            "hangs ADD: did not end within 3s",
        );
        let pid = std::fs::read_to_string(bed.node.path("hangs.log.pid")).unwrap();
        assert!(!std::fs::exists(format!("/proc/{}", pid.trim())).unwrap());
        bed.assert_clean();
    });
}

fn undoing_goes_on_past_errors_and_is_tried_until_it_is_done() {
    apart(|| {
        let bed = Bed::new("1.0.0", &json!([]));
        bed.configure(
            "1.0.0",
            &json!([bridge(&bed.node, &one_range()), {"type": "stays"}]),
        );
        let bed = bed.start();
        let script = "[ $CNI_COMMAND != DEL ] || [ -e $log.free ] || { echo busy >&2; exit 1; }\n\
                      [ $CNI_COMMAND != ADD ] || echo '{\"cniVersion\": \"1.0.0\"}'";
        bed.plugin("stays", script);
        let pod = bed.pod(|_| {});
        let container = bed.node.run(&pod, "while :; do sleep 1; done", |_| {});
        refused(
            bed.node.stop_pod(&pod),
            Code::Unknown,
            "stays DEL: busy (exit status: 1)",
        );
        // The containers have ended, and what could be undone is.
        assert_eq!(bed.node.status(&container).exit_code, 137);
        assert_eq!((bed.leases().len(), bed.entries().len()), (0, 1));
        // Nor does a pod that could not be made leave anything for ever.
        std::fs::write(bed.node.path("stays.log.free"), "").unwrap();
        bed.node.stop_pod(&pod).unwrap();
        bed.node.stop_pod(&pod).unwrap();
        bed.node.remove_pod(&pod);
        bed.assert_clean();
    });
}

/// The server is killed by a plugin in the middle of a chain, and the machine starts again.
fn what_a_killed_server_had_begun_is_undone() {
    apart(|| {
        let bed = Bed::new("1.0.0", &json!([]));
        bed.configure(
            "1.0.0",
            &json!([bridge(&bed.node, &one_range()), {"type": "kills"}]),
        );
        let mut bed = bed.start();
        let script = "[ $CNI_COMMAND != ADD ] || { kill -9 $PPID; exit 1; }";
        bed.plugin("kills", script);
        // Nobody is there to answer.
        bed.try_pod(|_| {}).unwrap_err();
        assert_eq!((bed.leases().len(), bed.entries().len()), (1, 1));
        bed.node.kill();
        bed.node.start();
        eventually("it is undone", || {
            bed.leases().is_empty() && bed.entries().is_empty()
        });
        assert!(bed.node.pods().is_empty());
        bed.assert_clean();
        // A pod whose files are gone, as after a start of the machine.
        bed.plugin(
            "kills",
            "[ $CNI_COMMAND != ADD ] || echo '{\"cniVersion\": \"1.0.0\"}'",
        );
        let pod = bed.pod(|_| {});
        bed.node.kill();
        let dir = bed.node.path("run/pods").join(&pod);
        cri::end_by_force(&dir);
        let netns = bed.node.path("netns").join(format!("ocirun-{pod}"));
        for point in [
            netns.clone(),
            dir.join("ns/net"),
            dir.join("ns/uts"),
            dir.join("ns/ipc"),
            dir.join("shm"),
        ] {
            let _ = nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH);
        }
        std::fs::remove_file(&netns).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(bed.leases().len(), 1);
        bed.node.start();
        eventually("it is undone", || bed.entries().is_empty());
        let last = bed.log("kills").lines().last().unwrap().to_owned();
        assert!(last.starts_with(&format!("DEL {pod} none eth0 ")), "{last}");
        bed.assert_clean();
    });
}

fn what_plugins_are_told() {
    apart(|| {
        let capable = json!({"portMappings": true, "bandwidth": true, "dns": true, "other": true});
        let plugins =
            json!([{"type": "first"}, {"type": "second", "capabilities": capable, "x": 5}]);
        let mut bed = Bed::new("1.1.0", &plugins).start();
        let result = r#"{"cniVersion": "1.1.0", "ips": [{"address": "10.9.8.7/24"}]}"#;
        let script = format!("[ $CNI_COMMAND != ADD ] || echo '{result}'");
        bed.plugin("first", &script);
        bed.plugin("second", &script);
        assert_eq!(bed.not_ready(), None);
        let pod = bed.pod(|config| {
            let annotation = "kubernetes.io/egress-bandwidth".to_owned();
            config.annotations.insert(annotation, "8M".to_owned());
            config.port_mappings = vec![mapping(1234, 80)];
        });
        assert_eq!(bed.addresses(&pod), ["10.9.8.7".parse::<IpAddr>().unwrap()]);
        let dir = bed.node.path(".");
        let calls = |name: &str, command: &str| {
            let log = std::fs::read_to_string(dir.join(format!("{name}.log"))).unwrap_or_default();
            let lines = log.lines().filter(|line| line.starts_with(command));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let config =
            |line: &str| serde_json::from_str::<Value>(&line[line.find('{').unwrap()..]).unwrap();
        let add = calls("second", "ADD").pop().unwrap();
        let netns = bed.node.path("netns").join(format!("ocirun-{pod}"));
        assert!(add.starts_with(&format!(
            "ADD {pod} {} eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=test;",
            netns.display()
        )));
        assert!(
            add.contains(&format!(";K8S_POD_INFRA_CONTAINER_ID={pod};K8S_POD_UID=u")),
            "{add}"
        );
        let second = config(&add);
        assert_eq!(
            (&second["name"], &second["x"], &second["cniVersion"]),
            (&json!("n"), &json!(5), &json!("1.1.0"))
        );
        assert_eq!(second["prevResult"]["ips"][0]["address"], "10.9.8.7/24");
        assert_eq!(
            second["runtimeConfig"]["bandwidth"]["egressRate"],
            8_000_000
        );
        assert_eq!(second["runtimeConfig"]["portMappings"][0]["hostPort"], 1234);
        assert!(second["runtimeConfig"].get("other").is_none());
        let first = config(&calls("first", "ADD")[0]);
        assert!(first.get("runtimeConfig").is_none() && first.get("prevResult").is_none());
        // The next server asks whether all is as it was, and tells what is in use.
        bed.node.kill();
        bed.node.start();
        eventually("plugins are told what is in use", || {
            !calls("second", "GC").is_empty()
        });
        assert_eq!(
            config(&calls("second", "CHECK")[0])["prevResult"]["ips"][0]["address"],
            "10.9.8.7/24"
        );
        let valid = &config(&calls("first", "GC")[0])["cni.dev/valid-attachments"];
        assert_eq!(*valid, json!([{"containerID": pod, "ifname": "eth0"}]));
        // The configuration changes: what was added by the old one is undone by it.
        bed.configure("1.0.0", &json!([{"type": "third"}]));
        bed.node.remove_pod(&pod);
        let undone = config(&calls("second", "DEL")[0]);
        assert_eq!(
            (&undone["cniVersion"], &undone["x"]),
            (&json!("1.1.0"), &json!(5))
        );
        assert_eq!(undone["prevResult"]["ips"][0]["address"], "10.9.8.7/24");
        assert!(bed.entries().is_empty());
    });
}

fn ready_or_why_not() {
    apart(|| {
        let bed = Bed::new("1.1.0", &json!([{"type": "bad"}])).start();
        bed.plugin("bad", r#"echo '{"code": 50, "msg": "no uplink"}'; exit 1"#);
        assert_eq!(
            bed.not_ready().unwrap(),
            "network \"n\": bad STATUS: no uplink (exit status: 1)"
        );
        bed.plugin("bad", "sleep 4321");
        assert!(bed.not_ready().unwrap().contains("did not end within"));
        std::fs::remove_file(bed.node.path("net.d/10-n.conflist")).unwrap();
        assert!(
            bed.not_ready()
                .unwrap()
                .contains("no configuration of a network in")
        );
        refused(
            bed.try_pod(|_| {}),
            Code::Unavailable,
            "network: no configuration of a network in",
        );
        bed.assert_clean();
        // The host's network needs none.
        bed.node.pod(|_| {});
        // Whoever puts one there is noticed, even if the directory is another one.
        std::fs::remove_dir(bed.node.path("net.d")).unwrap();
        std::fs::create_dir(bed.node.path("net.d")).unwrap();
        bed.configure("0.4.0", &json!([{"type": "bad"}]));
        assert_eq!(bed.not_ready(), None);
    });
}

suite! {
    &[
        Need::Root, Need::Program("ip"), Need::Program("busybox"),
        Need::File("/usr/lib/cni/bridge"),
    ] => [
        a_chain_that_fails_is_taken_back,
        a_plugin_that_hangs_is_ended,
        undoing_goes_on_past_errors_and_is_tried_until_it_is_done,
        what_a_killed_server_had_begun_is_undone,
    ],
    &[Need::Root, Need::Program("ip"), Need::Program("busybox")] => [
        what_plugins_are_told,
        ready_or_why_not,
    ],
}
