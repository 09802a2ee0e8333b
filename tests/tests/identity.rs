//! Who the process is: ids, groups, umask, capabilities, no_new_privs, environment, working directory, OOM score.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::{Bundle, Finished, Need, differs_on_runc, suite};
use serde_json::{Value, json};

fn report(bundle: Bundle) -> Value {
    bundle.probe(&["report"]).container().run().ok().value()
}

fn passwd(bundle: &Bundle, line: &str) {
    fs::write(bundle.inside("/etc/passwd"), format!("{line}\n")).unwrap();
}

fn variable<'a>(report: &'a Value, name: &str) -> Option<&'a str> {
    let list = report["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str);
    list.filter_map(|entry| entry.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn user_and_group() {
    let report = report(Bundle::new().set("/process/user", json!({"uid": 1234, "gid": 567})));
    assert_eq!(report["uids"], json!([1234, 1234, 1234, 1234]));
    assert_eq!(report["gids"], json!([567, 567, 567, 567]));
    assert_eq!(report["groups"], json!([]));
}

fn additional_groups() {
    let user = json!({"uid": 5, "gid": 6, "additionalGids": [100, 7, 4_000_000]});
    let report = report(Bundle::new().set("/process/user", user));
    assert_eq!(report["groups"], json!([7, 100, 4_000_000]));
}

fn umask_of_the_configuration() {
    let report = report(Bundle::new().set("/process/user/umask", 0o027));
    assert_eq!(report["umask"], "0027");
}

fn umask_is_022_by_default() {
    assert_eq!(report(Bundle::new())["umask"], "0022");
}

fn capabilities_as_listed() {
    let report = report(Bundle::new().set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"],
            "ambient": ["CAP_KILL"],
        }),
    ));
    let found = &report["capabilities"];
    assert_eq!(
        found["bounding"],
        json!(["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"])
    );
    assert_eq!(found["inheritable"], json!(["CAP_KILL"]));
    // Root's program: execve gives it all of the bounding set unless securebits or ambient say otherwise.
    let names: Vec<&str> = found["effective"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(names.contains(&"CAP_KILL"), "{found}");
}

fn ambient_capabilities_reach_an_ordinary_user() {
    let names = ["CAP_KILL", "CAP_NET_RAW"];
    let bundle = Bundle::new().set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let sets = json!({
        "bounding": names, "permitted": names, "effective": names, "inheritable": names, "ambient": ["CAP_NET_RAW"],
    });
    let found = report(bundle.set("/process/capabilities", sets))["capabilities"].take();
    assert_eq!(found["ambient"], json!(["CAP_NET_RAW"]));
    assert_eq!(
        found["effective"],
        json!(["CAP_NET_RAW"]),
        "what is not ambient is lost at execve"
    );
    assert_eq!(found["bounding"], json!(names));
}

fn an_ordinary_user_has_none_without_ambient() {
    let names = json!(["CAP_KILL"]);
    let bundle = Bundle::new().set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let sets = json!({"bounding": names, "permitted": names, "effective": names});
    let found = report(bundle.set("/process/capabilities", sets))["capabilities"].take();
    assert_eq!(found["effective"], json!([]));
    assert_eq!(found["permitted"], json!([]));
}

fn no_capabilities_section_means_none() {
    let found = report(Bundle::new().remove("/process/capabilities"))["capabilities"].take();
    for set in [
        "bounding",
        "permitted",
        "effective",
        "inheritable",
        "ambient",
    ] {
        assert_eq!(found[set], json!([]), "{set}");
    }
}

fn an_unknown_capability_is_a_warning() {
    let bundle = Bundle::new()
        .capabilities(&["CAP_KILL", "CAP_NO_SUCH"])
        .probe(&["report"]);
    let run = bundle.container().run().ok();
    assert_eq!(run.value()["capabilities"]["bounding"], json!(["CAP_KILL"]));
    assert!(run.stderr().contains("CAP_NO_SUCH"), "{run}");
}

fn no_new_privs_as_asked() {
    assert_eq!(report(Bundle::new())["no_new_privs"], "1");
    assert_eq!(
        report(Bundle::new().set("/process/noNewPrivileges", false))["no_new_privs"],
        "0"
    );
    assert_eq!(
        report(Bundle::new().remove("/process/noNewPrivileges"))["no_new_privs"],
        "0"
    );
}

fn environment_is_the_configuration_and_home() {
    let report =
        report(Bundle::new().set("/process/env", json!(["A=1", "B=two words", "C=", "D=x=y"])));
    assert_eq!(
        report["env"],
        json!(["A=1", "B=two words", "C=", "D=x=y", "HOME=/"])
    );
}

fn environment_of_the_caller_stays_outside() {
    let container = Bundle::new().probe(&["report"]).container();
    let run = container
        .from_bundle("run", &[])
        .env("SECRET_OF_THE_HOST", "1")
        .finish()
        .ok();
    assert_eq!(variable(&run.value(), "SECRET_OF_THE_HOST"), None);
}

fn home_comes_from_passwd_of_the_container() {
    let bundle = Bundle::new().set("/process/user", json!({"uid": 1234, "gid": 1}));
    passwd(&bundle, "someone:x:1234:1::/home/someone:/bin/sh");
    assert_eq!(variable(&report(bundle), "HOME"), Some("/home/someone"));
}

fn an_empty_home_is_replaced() {
    let bundle = Bundle::new().set("/process/env", json!(["HOME=", "PATH=/bin"]));
    passwd(&bundle, "root:x:0:0::/root:/bin/sh");
    assert_eq!(variable(&report(bundle), "HOME"), Some("/root"));
}

fn a_given_home_stays() {
    let bundle = Bundle::new().set("/process/env", json!(["HOME=/elsewhere"]));
    passwd(&bundle, "root:x:0:0::/root:/bin/sh");
    assert_eq!(variable(&report(bundle), "HOME"), Some("/elsewhere"));
}

/// CVE-2016-3697: a name that is a number must not be taken for the user's id.
fn a_numeric_name_in_passwd_changes_no_id() {
    let bundle = Bundle::new().set("/process/user", json!({"uid": 1000, "gid": 1000}));
    passwd(&bundle, "1000:x:0:0::/root:/bin/sh");
    let report = report(bundle);
    assert_eq!(report["uids"][0], 1000);
    assert_ne!(variable(&report, "HOME"), Some("/root"), "by the name");
}

fn a_broken_passwd_harms_nobody() {
    let bundle = Bundle::new();
    fs::write(bundle.inside("/etc/passwd"), b"\xff\xfe:::\n\nroot:x\n:\n").unwrap();
    let home = if differs_on_runc("takes a line without an id for root's") {
        ""
    } else {
        "/"
    };
    assert_eq!(variable(&report(bundle), "HOME"), Some(home));
}

fn the_last_duplicate_of_a_variable_wins() {
    let report = report(Bundle::new().set("/process/env", json!(["A=1", "B=2", "A=3"])));
    let named_a: Vec<&Value> = report["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry.as_str().unwrap().starts_with("A="))
        .collect();
    assert_eq!(named_a, ["A=3"]);
}

fn a_value_may_hold_a_line_end() {
    let report = report(Bundle::new().set("/process/env", json!(["A=1\n2"])));
    assert_eq!(variable(&report, "A"), Some("1\n2"));
}

fn working_directory() {
    let bundle = Bundle::new().set("/process/cwd", "/tmp");
    assert_eq!(report(bundle)["cwd"], "/tmp");
}

fn a_missing_working_directory_is_made() {
    let container = Bundle::new()
        .set("/root/readonly", false)
        .set("/process/cwd", "/made/by/runtime")
        .probe(&["report", ",", "stat", "/made/by/runtime"])
        .container();
    let values = container.run().ok().values();
    assert_eq!(values[0]["cwd"], "/made/by/runtime");
    assert_eq!(
        (&values[1]["uid"], &values[1]["mode"]),
        (&json!(0), &json!("0755"))
    );
}

fn a_relative_working_directory_is_refused() {
    let run = Bundle::new().set("/process/cwd", "tmp").container().run();
    run.fails(1, "");
}

fn a_working_directory_only_the_user_may_enter() {
    let bundle = Bundle::new()
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .set("/process/cwd", "/private");
    fs::create_dir(bundle.inside("/private")).unwrap();
    std::os::unix::fs::chown(bundle.inside("/private"), Some(1000), Some(1000)).unwrap();
    fs::set_permissions(
        bundle.inside("/private"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    assert_eq!(report(bundle)["cwd"], "/private");
}

/// The first attempt is made before the ids change, as images with directories of root's rely on it.
fn a_working_directory_only_root_may_enter() {
    let bundle = Bundle::new()
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .set("/process/cwd", "/private");
    fs::create_dir(bundle.inside("/private")).unwrap();
    fs::set_permissions(
        bundle.inside("/private"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    assert_eq!(report(bundle)["cwd"], "/private");
}

fn oom_score() {
    assert_eq!(
        report(Bundle::new().set("/process/oomScoreAdj", 500))["oom_score_adj"],
        "500"
    );
}

fn arguments_are_passed_as_they_are() {
    let run: Finished = Bundle::new()
        .probe(&["print", "", "a b", "$HOME", "*", "ü"])
        .container()
        .run()
        .ok();
    assert_eq!(run.value(), " a b $HOME * ü");
}

fn personality_of_32_bits() {
    let bundle = Bundle::new().set("/linux/personality", json!({"domain": "LINUX32"}));
    let run = bundle
        .probe(&["read", "/proc/self/personality"])
        .container()
        .run()
        .ok();
    assert_eq!(run.value(), "00000008\n");
}

fn the_process_leads_its_session() {
    let report = report(Bundle::new());
    assert_eq!((&report["pid"], &report["session"]), (&json!(1), &json!(1)));
}

fn no_signal_is_blocked_inside() {
    assert_eq!(report(Bundle::new())["signals_blocked"], "0000000000000000");
}

fn keys_of(flags: &[&str]) -> (String, String) {
    let container = Bundle::new()
        .set("/linux/maskedPaths", json!([]))
        .probe(&["report"])
        .container();
    let report = container.from_bundle("run", flags).finish().ok().value();
    (
        format!("_ses.{}:", container.id),
        report["keyring"].as_str().unwrap().to_owned(),
    )
}

fn session_keyring_is_its_own() {
    let (name, keys) = keys_of(&[]);
    assert!(keys.contains(&name), "{keys}");
}

fn session_keyring_of_the_caller_on_request() {
    let (name, keys) = keys_of(&["--no-new-keyring"]);
    assert!(!keys.contains(&name), "{keys}");
}

suite! {
    &[Need::Root] => [
        user_and_group,
        additional_groups,
        umask_of_the_configuration,
        umask_is_022_by_default,
        capabilities_as_listed,
        ambient_capabilities_reach_an_ordinary_user,
        an_ordinary_user_has_none_without_ambient,
        no_capabilities_section_means_none,
        an_unknown_capability_is_a_warning,
        no_new_privs_as_asked,
        environment_is_the_configuration_and_home,
        environment_of_the_caller_stays_outside,
        home_comes_from_passwd_of_the_container,
        an_empty_home_is_replaced,
        a_given_home_stays,
        a_numeric_name_in_passwd_changes_no_id,
        a_broken_passwd_harms_nobody,
        the_last_duplicate_of_a_variable_wins,
        a_value_may_hold_a_line_end,
        working_directory,
        a_missing_working_directory_is_made,
        a_relative_working_directory_is_refused,
        a_working_directory_only_the_user_may_enter,
        a_working_directory_only_root_may_enter,
        oom_score,
        arguments_are_passed_as_they_are,
        the_process_leads_its_session,
        no_signal_is_blocked_inside,
        session_keyring_is_its_own,
        session_keyring_of_the_caller_on_request,
    ],
    &[Need::Root, Need::NotRunc("1.1.5 has no personality")] => [personality_of_32_bits],
}
