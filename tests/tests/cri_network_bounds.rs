//! Plugins of networks that print, stay and fail without end, and entries that are not ours: what the server bears.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::network::{self, Bed, mapping};
use cri::{apart, refused};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ocirun_tests::{Need, eventually, suite};
use serde_json::json;
use std::path::Path;
use tonic::Code;

/// What a plugin may take of the server's memory, in bytes.
const LITTLE: u64 = 12 << 20;
/// A plugin that adds nothing.
const ADDS: &str = "[ $CNI_COMMAND != ADD ] || echo '{\"cniVersion\": \"1.0.0\"}'";

/// A network of one plugin, which runs a script.
fn network_of(script: &str) -> Bed {
    let bed = Bed::new("1.1.0", &json!([{"type": "one"}])).start();
    bed.plugin("one", script);
    bed
}

fn a_question_is_answered_soon() {
    apart(|| {
        let bed = network_of("[ $CNI_COMMAND != STATUS ] || sleep 4341");
        let why = bed.not_ready().unwrap();
        // Less than all of kubeadm's patience, though plugins may take 20 s for a pod.
        assert!(why.contains("did not end within 1.5s"), "{why}");
    });
}

fn much_that_is_said_besides() {
    apart(|| {
        let bed = network_of("head -c 200000000 /dev/zero | tr '\\0' x >&2; exit 1");
        let before = bed.node.most_memory();
        let error = bed.try_pod(|_| {}).unwrap_err();
        assert_eq!(error.code(), Code::Unknown);
        assert!(error.message().len() < 10_000, "{}", error.message().len());
        let after = bed.node.most_memory();
        assert!(after < before + LITTLE, "{before} became {after}");
        bed.plugin("one", ADDS);
        eventually("it is undone", || bed.entries().is_empty());
    });
}

/// A plugin that ends, and leaves somebody who holds its output.
fn output_that_is_held() {
    apart(|| {
        let script =
            format!("[ $CNI_COMMAND != ADD ] || {{ sleep 4342 & echo $! > $log.pid; }}\n{ADDS}");
        let bed = network_of(&script);
        let words = "one ADD: has ended, but something that it started holds its output";
        let added = bed.try_pod(|_| {});
        let pid = std::fs::read_to_string(bed.node.path("one.log.pid")).unwrap();
        // It was started by this test, and nobody else ends it.
        kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
        refused(added, Code::Unknown, words);
        bed.assert_clean();
    });
}

/// A pod that could neither be added nor taken back: nobody asks for it again, and all the same it is undone.
fn what_could_not_be_undone_is_undone_later() {
    apart(|| {
        let bed = Bed::new("1.0.0", &json!([{"type": "one"}, {"type": "two"}])).start();
        bed.plugin("one", ADDS);
        bed.plugin("two", "[ -e $log.free ] || { echo busy >&2; exit 1; }");
        let port = || bed.try_pod(|config| config.port_mappings = vec![mapping(12080, 80)]);
        refused(port(), Code::Unknown, "two ADD: busy");
        assert_eq!(bed.entries().len(), 1);
        let calls = |name: &str, command: &str| {
            let log = bed.log(name);
            log.lines().filter(|line| line.starts_with(command)).count()
        };
        let before = calls("two", "DEL");
        assert!(calls("one", "DEL") > 0 && before > 0);
        // The port of the host that it was to have is free.
        bed.configure("1.0.0", &json!([{"type": "one"}]));
        let pod = port().unwrap();
        std::fs::write(bed.node.path("two.log.free"), "").unwrap();
        eventually("it is undone", || bed.entries().len() == 1);
        assert!(calls("two", "DEL") > before);
        bed.node.remove_pod(&pod);
        bed.assert_clean();
    });
}

/// Others keep their entries at the same place, and may use the same network.
fn entries_of_others_stay() {
    apart(|| {
        let mut bed = network_of(ADDS);
        let pod = bed.pod(|_| {});
        let ours = bed.entries().pop().unwrap();
        let text = std::fs::read_to_string(&ours).unwrap();
        let mut entry: serde_json::Value = serde_json::from_str(&text).unwrap();
        let dir = ours.parent().unwrap().to_owned();
        let put = |name: &str, entry: &serde_json::Value| {
            std::fs::write(dir.join(name), entry.to_string()).unwrap();
        };
        entry["containerId"] = "somebody1".into();
        entry["ocirunState"] = "/run/somebody".into();
        put("n-somebody1-eth0", &entry);
        entry["containerId"] = "somebody2".into();
        entry.as_object_mut().unwrap().remove("ocirunState");
        put("n-somebody2-eth0", &entry);
        bed.node.kill();
        bed.node.start();
        eventually("what is not in use is cleared away", || {
            bed.log("one").contains("\nGC ")
        });
        let log = bed.log("one");
        assert!(!log.contains("\nDEL "), "{log}");
        for name in ["somebody1", "somebody2"] {
            assert!(Path::new(&dir).join(format!("n-{name}-eth0")).exists());
            // To a plugin, all that is on record is in use.
            assert!(
                log.lines()
                    .any(|line| line.starts_with("GC ") && line.contains(name))
            );
        }
        bed.node.remove_pod(&pod);
    });
}

/// Plugins that know STATUS and GC, where `CNI_BIN=` names their directory.
fn the_newest_version_with_plugins_that_know_it() {
    apart(|| {
        let bed = Bed::new("1.1.0", &json!([]));
        let bridge = network::bridge(&bed.node, &network::one_range());
        let portmap = network::portmap();
        bed.configure("1.1.0", &json!([{"type": "one"}, bridge, portmap]));
        bed.plugin("one", ADDS);
        let mut bed = bed.start();
        assert_eq!(bed.not_ready(), None);
        let pod = bed.pod(|config| config.port_mappings = vec![mapping(12080, 80)]);
        assert_eq!(bed.addresses(&pod).len(), 1);
        bed.node.kill();
        bed.node.start();
        eventually("what is not in use is cleared away", || {
            bed.log("one").contains("\nGC ")
        });
        let log = bed.node.log();
        assert!(!log.contains(" CHECK: ") && !log.contains(" GC: "), "{log}");
        bed.node.remove_pod(&pod);
        bed.assert_clean();
    });
}

fn configurations_that_are_too_much() {
    apart(|| {
        let bed = network_of(ADDS);
        let many = (0..65).map(|_| json!({"type": "one"}));
        bed.configure("1.1.0", &many.collect());
        let why = bed.not_ready().unwrap();
        assert!(
            why.contains("plugins: 65 are not between 1 and 64"),
            "{why}"
        );
        bed.configure("1.1.0", &json!([{"type": "one", "x": "y".repeat(2 << 20)}]));
        let why = bed.not_ready().unwrap();
        assert!(why.contains("is larger than 1048576 bytes"), "{why}");
        bed.configure("1.1.0", &json!([{"type": "one"}]));
        assert_eq!(bed.not_ready(), None);
    });
}

suite! {
    &[
        Need::Root, Need::Program("ip"), Need::Program("busybox"), Need::Program("iptables-save"),
        Need::Variable("CNI_BIN"),
    ] => [
        the_newest_version_with_plugins_that_know_it,
    ],
    &[Need::Root, Need::Program("ip"), Need::Program("busybox")] => [
        a_question_is_answered_soon,
        much_that_is_said_besides,
        output_that_is_held,
        what_could_not_be_undone_is_undone_later,
        entries_of_others_stay,
        configurations_that_are_too_much,
    ],
}
