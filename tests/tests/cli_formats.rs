//! What callers of runc read and make: spec and features, state directories, pid files and bundles.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::{
    Bundle, Container, Finished, Invocation, Need, default_spec, differs_on_runc, rootless_spec,
    runtime, suite,
};
use serde_json::{Value, json};

fn call(args: &[&str]) -> Finished {
    Invocation::new(&runtime().program).args(args).finish()
}

fn empty() -> Container {
    Bundle::new().probe(&["print", "x"]).container()
}

fn without_extras(mut spec: Value) -> Value {
    for key in [
        "/ociVersion",
        "/process/args",
        "/process/terminal",
        // runc 1.2 left them out.
        "/process/capabilities/ambient",
        "/hostname",
    ] {
        if let Some(value) = spec.pointer_mut(key) {
            value.take();
        }
    }
    spec
}

/// Everything in `least` is in `whole`; lists may be longer.
fn contains(whole: &Value, least: &Value, at: &str) {
    match (whole, least) {
        (Value::Object(whole), Value::Object(least)) => {
            for (key, value) in least {
                contains(
                    whole.get(key).unwrap_or(&Value::Null),
                    value,
                    &format!("{at}/{key}"),
                );
            }
        }
        (Value::Array(whole), Value::Array(least)) => {
            for value in least {
                assert!(whole.contains(value), "{at}: no {value} in {whole:?}");
            }
        }
        _ => assert_eq!(whole, least, "{at}"),
    }
}

fn spec_writes_the_default_configuration() {
    let container = empty();
    let directory = container.file("fresh");
    fs::create_dir(&directory).unwrap();
    Invocation::new(&runtime().program)
        .arg("spec")
        .directory(&directory)
        .finish()
        .ok();
    let text = fs::read_to_string(directory.join("config.json")).unwrap();
    let spec: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&spec["process"]["terminal"], &spec["process"]["args"]),
        (&json!(true), &json!(["sh"]))
    );
    assert!(text.contains("\n\t\"process\": {"), "indented by tabs");
    contains(&without_extras(spec), &without_extras(default_spec()), "");
    let again = Invocation::new(&runtime().program)
        .arg("spec")
        .directory(&directory)
        .finish();
    again.fails(1, "File config.json exists. Remove it first");
}

fn spec_for_an_ordinary_user() {
    let container = empty();
    let directory = container.file("fresh");
    fs::create_dir(&directory).unwrap();
    let call = Invocation::new(&runtime().program)
        .args(["spec", "--rootless", "--bundle"])
        .arg(&directory);
    call.finish().ok();
    let text = fs::read_to_string(directory.join("config.json")).unwrap();
    let ids = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    let expected = without_extras(rootless_spec(ids.0, ids.1));
    contains(
        &without_extras(serde_json::from_str(&text).unwrap()),
        &expected,
        "",
    );
}

fn spec_runs_as_written() {
    let mut container = empty();
    fs::remove_file(container.file("config.json")).unwrap();
    Invocation::new(&runtime().program)
        .arg("spec")
        .directory(container.bundle.path())
        .finish()
        .ok();
    let text = fs::read_to_string(container.file("config.json")).unwrap();
    container.bundle.spec = serde_json::from_str(&text).unwrap();
    container.bundle.spec["process"]["terminal"] = json!(false);
    container.bundle.spec["process"]["args"] = json!(["probe", "print", "x"]);
    container.bundle.write();
    assert_eq!(container.run().ok().value(), "x");
}

fn spec_in_a_directory_that_is_none() {
    call(&["spec", "--bundle", "/no/such/directory"]).fails(1, "no such file or directory");
}

fn features_for_containerd() {
    let text = call(&["features"]).ok().stdout();
    assert!(
        text.starts_with("{\n    \"ociVersionMin\": \"1.0.0\",\n    \"ociVersionMax\": \""),
        "{text}"
    );
    let found: Value = serde_json::from_str(&text).unwrap();
    let hooks = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    assert_eq!(found["hooks"], json!(hooks));
    for option in [
        "bind", "rbind", "ro", "rro", "rnosuid", "private", "rshared", "relatime", "noexec",
    ] {
        assert!(
            found["mountOptions"]
                .as_array()
                .unwrap()
                .contains(&json!(option)),
            "{option}"
        );
    }
    if !differs_on_runc("1.1.5 does not know the key") {
        let annotations = json!(["org.criu.config", "org.ocirun.", "org.systemd.property."]);
        assert_eq!(found["potentiallyUnsafeConfigAnnotations"], annotations);
    }
    let linux = &found["linux"];
    for namespace in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        assert!(
            linux["namespaces"]
                .as_array()
                .unwrap()
                .contains(&json!(namespace)),
            "{namespace}"
        );
    }
    assert!(
        linux["capabilities"]
            .as_array()
            .unwrap()
            .contains(&json!("CAP_SYS_ADMIN"))
    );
    assert_eq!(
        (&linux["cgroup"]["v1"], &linux["seccomp"]["enabled"]),
        (&json!(true), &json!(true))
    );
    for action in [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_NOTIFY",
    ] {
        assert!(
            linux["seccomp"]["actions"]
                .as_array()
                .unwrap()
                .contains(&json!(action)),
            "{action}"
        );
    }
    assert!(
        linux["seccomp"]["operators"]
            .as_array()
            .unwrap()
            .contains(&json!("SCMP_CMP_MASKED_EQ"))
    );
    assert!(
        linux["seccomp"]["archs"]
            .as_array()
            .unwrap()
            .contains(&json!("SCMP_ARCH_X86_64"))
    );
}

fn the_state_root_is_made_when_needed() {
    let container = empty();
    let root = container.file("deep/er/state");
    let call = Invocation::new(&runtime().program)
        .arg("--root")
        .arg(&root)
        .arg("run")
        .arg("--bundle");
    assert_eq!(
        call.arg(container.bundle.path())
            .arg(&container.id)
            .finish()
            .ok()
            .value(),
        "x"
    );
}

fn a_missing_state_root_named_by_the_caller_is_an_error_of_list() {
    let container = empty();
    let missing = container.file("no/such/state");
    let run = call(&["--root", missing.to_str().unwrap(), "list"]);
    if differs_on_runc("1.1.5 lists nothing") {
        run.ok();
    } else {
        run.fails(1, "no such file or directory");
    }
}

fn the_root_of_the_machine_is_no_state_root() {
    call(&["--root", "/", "list"]).fails(1, "");
}

fn a_pid_file_in_no_directory() {
    let container = Bundle::new().probe(&["pause"]).container();
    let call = container
        .from_bundle("create", &["--pid-file", "/no/such/directory/pid"])
        .finish();
    call.fails(1, "no such file or directory");
    container.verb("state").fails(1, "container does not exist");
}

fn a_bundle_that_is_none() {
    let container = empty();
    let call = container
        .command("create")
        .args(["--bundle", "/no/such/bundle", &container.id])
        .finish();
    call.fails(1, "no such file or directory");
}

suite! {
    &[] => [
        spec_writes_the_default_configuration,
        spec_for_an_ordinary_user,
        spec_in_a_directory_that_is_none,
        features_for_containerd,
        a_missing_state_root_named_by_the_caller_is_an_error_of_list,
        a_bundle_that_is_none,
    ],
    &[Need::Root] => [
        spec_runs_as_written,
        the_state_root_is_made_when_needed,
        a_pid_file_in_no_directory,
    ],
    &[Need::NotRunc("1.1.5 takes every directory below as a container")] => [
        the_root_of_the_machine_is_no_state_root,
    ],
}
