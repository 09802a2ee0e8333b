//! Labels of security modules: what the host cannot do is an error that says so.
#![allow(clippy::unwrap_used, reason = "tests")]

use ocirun_tests::{Bundle, Need, suite};
use serde_json::Value;

fn refused(pointer: &str, value: &str, words: &str) {
    let container = Bundle::new().set(pointer, value).container();
    container.run().fails(1, &format!("{pointer}: {words}"));
    container.verb("state").fails(1, "does not exist");
}

fn exec_refused(flag: &str, words: &str) {
    let container = Bundle::new().probe(&["pause"]).container();
    container.run_until_ready_detached();
    container
        .exec_with(&[flag, "x"], &["report"])
        .fails(255, words);
}

fn a_profile_needs_apparmor() {
    let words = "AppArmor is not enabled on this host";
    refused(
        "/process/apparmorProfile",
        "cri-containerd.apparmor.d",
        words,
    );
    exec_refused("--apparmor", &format!("/process/apparmorProfile: {words}"));
}

fn a_label_needs_selinux() {
    let words = "SELinux is not enabled on this host";
    let label = "system_u:system_r:container_t:s0:c1,c2";
    refused("/process/selinuxLabel", label, words);
    refused("/linux/mountLabel", label, words);
    exec_refused(
        "--process-label",
        &format!("/process/selinuxLabel: {words}"),
    );
}

/// The profile that every host with AppArmor has, and one that none has.
fn profiles_of_apparmor() {
    let with = |profile: &str| {
        let bundle = Bundle::new().set("/process/apparmorProfile", profile);
        bundle.probe(&["report"]).container().run()
    };
    let label: Value = with("unconfined").ok().value()["label"].clone();
    assert!(label.as_str().unwrap().starts_with("unconfined"), "{label}");
    with("no-such-profile").fails(1, "process.apparmorProfile: write(\"attr/apparmor/exec\"");
}

fn empty_labels_are_none() {
    let bundle = Bundle::new()
        .set("/process/apparmorProfile", "")
        .set("/process/selinuxLabel", "")
        .set("/linux/mountLabel", "");
    bundle.container().run().ok();
}

suite! {
    &[Need::Root] => [empty_labels_are_none],
    &[Need::Root, Need::Ocirun, Need::NoFile("/sys/module/apparmor/parameters/enabled")] => [a_profile_needs_apparmor],
    &[Need::Root, Need::Ocirun, Need::NoFile("/sys/fs/selinux/enforce")] => [a_label_needs_selinux],
    &[Need::Root, Need::Ocirun, Need::File("/sys/module/apparmor/parameters/enabled")] => [profiles_of_apparmor],
}
