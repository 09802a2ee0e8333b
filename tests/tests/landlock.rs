//! Landlock by annotation: what is handled and not allowed is refused to the program, and to those of exec.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::{Bundle, Container, Need, suite};
use serde_json::{Value, json};

/// Reading and writing are handled; what the probe itself needs is allowed.
fn ruleset() -> Value {
    json!({
        "handledAccessFS": ["execute", "read_file", "write_file", "make_reg", "truncate"],
        "pathBeneath": [
            {"paths": ["/bin", "/proc"], "allowedAccess": ["execute", "read_file"]},
            {"paths": ["/tmp"], "allowedAccess": ["read_file", "write_file", "make_reg", "truncate"]},
            {"paths": ["/etc/known"], "allowedAccess": ["read_file", "make_reg"]},
        ],
    })
}

fn restricted(ruleset: &Value) -> Bundle {
    let bundle = Bundle::new()
        .set(
            "/annotations",
            json!({"org.ocirun.landlock": ruleset.to_string()}),
        )
        .set("/root/readonly", false);
    for name in ["known", "secret"] {
        fs::write(bundle.inside("/etc").join(name), name).unwrap();
    }
    bundle
}

const STEPS: &[&str] = &[
    "read",
    "/etc/known",
    ",",
    "read",
    "/etc/secret",
    ",",
    "write",
    "/tmp/x",
    "y",
    ",",
    "write",
    "/etc/known",
    "y",
    ",",
    "write",
    "/etc/new",
    "y",
];

fn expected() -> [Value; 5] {
    let denied = || json!({"errno": "EACCES"});
    [json!("known"), denied(), json!("ok"), denied(), denied()]
}

fn only_what_is_allowed() {
    let run = restricted(&ruleset()).probe(STEPS).container().run();
    assert_eq!(run.values(), expected(), "{run}");
}

fn exec_is_under_it_too() {
    let container = restricted(&ruleset()).probe(&["pause"]).container();
    container.run_until_ready_detached();
    let exec = container.exec(STEPS);
    assert_eq!(exec.values(), expected(), "{exec}");
}

fn beside_create_start_init_and_seccomp() {
    let denying = json!([{"names": ["landlock_create_ruleset", "landlock_restrict_self"], "action": "SCMP_ACT_ERRNO"}]);
    let bundle = restricted(&ruleset()).set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": denying}),
    );
    let container = bundle.probe(STEPS).container();
    let create = container.from_bundle("create", &["--init"]).finish().ok();
    container.start().ok();
    container.wait_for_status("stopped");
    assert_eq!(create.values(), expected(), "{create}");
}

fn refused_at_create(container: &Container, words: &str) {
    container.create().fails(1, words);
    container.verb("state").fails(1, "does not exist");
}

fn mistakes_are_named() {
    let pointer = "/annotations/org.ocirun.landlock: ";
    for (key, value) in [
        ("handledAccessFS", json!(["fly"])),
        ("handled", json!([])),
        (
            "pathBeneath",
            json!([{"paths": ["relative"], "allowedAccess": []}]),
        ),
    ] {
        let mut ruleset = ruleset();
        ruleset[key] = value;
        refused_at_create(&restricted(&ruleset).container(), pointer);
    }
    let may_gain = restricted(&ruleset()).set("/process/noNewPrivileges", false);
    refused_at_create(&may_gain.container(), pointer);
}

fn a_path_that_is_missing() {
    let mut ruleset = ruleset();
    ruleset["pathBeneath"][1]["paths"] = json!(["/tmp", "/no/such"]);
    let bundle = restricted(&ruleset);
    refused_at_create(
        &bundle.container(),
        "org.ocirun.landlock: open(\"/no/such\", O_PATH): no such file",
    );
    ruleset["bestEffort"] = json!(true);
    let run = restricted(&ruleset).probe(STEPS).container().run();
    assert_eq!(run.values(), expected(), "{run}");
}

suite! {
    &[Need::Root, Need::Ocirun, Need::Landlock, Need::Kernel(6, 2)] => [
        only_what_is_allowed,
        exec_is_under_it_too,
        beside_create_start_init_and_seccomp,
        a_path_that_is_missing,
        mistakes_are_named,
    ],
}
