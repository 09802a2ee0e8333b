//! Logs through the server: every line once, though logs are rotated as the kubelet does it and the server is killed.
//!
//! `OCIRUN_TEST_LINES=` is how many lines of 100 bytes are printed, 200000 unless told; logs are then rotated each
//! 10 MiB, otherwise each MiB.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart};
use cri_server::api::{ContainerState, Mount, ReopenContainerLogRequest};
use ocirun_tests::logs::{log_size, numbered_lines};
use ocirun_tests::{Need, PROBE, probe_program, suite};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a log is rotated while the server is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// It is not.
    Never,
    /// Before the server is asked: nobody answers.
    Before,
    /// While it is asked: it may have been done, and nobody hears of it.
    Meanwhile,
    /// After the answer.
    After,
}

/// What happens at one rotation after the other.
const MOMENTS: [Moment; 5] = [
    Moment::Never,
    Moment::Before,
    Moment::Meanwhile,
    Moment::After,
    Moment::Meanwhile,
];

/// The kubelet's side of a log.
struct Rotation {
    log: PathBuf,
    next: u64,
    done: usize,
}

impl Rotation {
    /// Renames the log and has it opened anew; back if that fails, as the kubelet does.
    fn rotate(&mut self, node: &mut Node, id: &str, moment: Moment) {
        let old = self.log.with_extension("old");
        fs::rename(&self.log, &old).unwrap();
        let has_answered = match moment {
            Moment::Never => reopen(node, id, Duration::from_secs(60)),
            Moment::After => {
                let has_answered = reopen(node, id, Duration::from_secs(60));
                node.kill();
                has_answered
            }
            Moment::Before => {
                node.kill();
                reopen(node, id, Duration::from_secs(60))
            }
            Moment::Meanwhile => {
                let pause = Duration::from_micros(300 * (self.done as u64 % 7));
                let has_answered = reopen(node, id, pause);
                node.kill();
                has_answered
            }
        };
        if has_answered {
            assert!(self.log.exists(), "the new log is there");
            self.take(&old);
            fs::remove_file(&old).unwrap();
            self.done += 1;
        } else {
            fs::rename(&old, &self.log).unwrap();
        }
        if moment != Moment::Never {
            node.start();
        }
    }

    /// Reads a log to which nothing comes any more.
    fn take(&mut self, log: &Path) {
        for number in numbered_lines(File::open(log).unwrap()) {
            assert_eq!(number, self.next, "after {} rotations", self.done);
            self.next += 1;
        }
    }
}

/// Whether the server has said within this time that the log is open anew.
fn reopen(node: &Node, id: &str, within: Duration) -> bool {
    let request = ReopenContainerLogRequest {
        container_id: id.to_owned(),
    };
    let answer = node.wait(async {
        let mut runtime = node.runtime();
        tokio::time::timeout(within, runtime.reopen_container_log(request)).await
    });
    matches!(answer, Ok(Ok(_)))
}

fn every_line_is_there_once_though_the_server_is_killed() {
    apart(|| {
        let (count, limit) = log_size();
        let mut node = Node::ready();
        let pod = node.pod(|_| {});
        let id = node.run(&pod, "", |config| {
            config.command = [PROBE, "lines", "0", &count.to_string()]
                .map(str::to_owned)
                .into();
            config.mounts = vec![Mount {
                container_path: PROBE.to_owned(),
                host_path: probe_program().display().to_string(),
                readonly: true,
                ..Mount::default()
            }];
        });
        let mut rotation = Rotation {
            log: node.status(&id).log_path.into(),
            next: 0,
            done: 0,
        };
        let mut turn = 0;
        while node.status(&id).state() == ContainerState::ContainerRunning {
            if fs::metadata(&rotation.log).is_ok_and(|found| found.len() > limit) {
                rotation.rotate(&mut node, &id, MOMENTS[turn % MOMENTS.len()]);
                turn += 1;
            }
        }
        assert!(rotation.done > 3, "{} rotations", rotation.done);
        let log = rotation.log.clone();
        rotation.take(&log);
        assert_eq!(rotation.next, count);
        assert_eq!(node.ended(&id).exit_code, 0);
        node.remove_pod(&pod);
        node.assert_nothing_left();
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [every_line_is_there_once_though_the_server_is_killed],
}
