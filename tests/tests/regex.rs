//! `kill` and `delete` of all containers in whose ids a regular expression is found: crun's, which runc has not got.
#![allow(clippy::unwrap_used, reason = "tests")]

use ocirun_tests::{Bundle, Container, Finished, Need, eventually, suite};

/// Three containers that run, two of which are called `web`, in the state directory of the first.
fn three() -> [Container; 3] {
    let named = |name: &str| {
        let mut container = Bundle::new().probe(&["pause"]).container();
        container.id = format!("{name}-{}", container.id);
        container
    };
    let all = [named("web"), named("web"), named("db")];
    for container in &all {
        let run = all[0].command("run").arg("--detach").arg("--bundle");
        run.arg(container.bundle.path())
            .arg(&container.id)
            .finish()
            .ok();
    }
    all
}

fn call(all: &[Container], words: &[&str]) -> Finished {
    all[0].runtime().args(words).finish()
}

fn ids(all: &[Container]) -> Vec<String> {
    let list = call(all, &["list", "--quiet"]).ok().stdout();
    list.lines().map(str::to_owned).collect()
}

/// Those of `three` that run.
fn running(all: &[Container]) -> Vec<bool> {
    let status = |container: &Container| {
        let state = call(all, &["state", &container.id]).ok();
        serde_json::from_str::<serde_json::Value>(&state.stdout()).unwrap()["status"] == "running"
    };
    all.iter().map(status).collect()
}

fn a_signal_to_all_that_match() {
    let all = three();
    call(&all, &["kill", "--regex", "^web-test", "KILL"]).ok();
    eventually("both have ended", || running(&all) == [false, false, true]);
}

fn it_is_found_anywhere_in_an_id() {
    let all = three();
    call(&all, &["kill", "-r", "(e|x)b-[a-z]+", "KILL"]).ok();
    eventually("both have ended", || running(&all) == [false, false, true]);
}

fn those_that_match_are_deleted() {
    let all = three();
    call(&all, &["delete", "--force", "--regex", "web"]).ok();
    assert_eq!(ids(&all), [all[2].id.as_str()]);
    for container in &all[..2] {
        assert!(container.bundle.cgroup().existing().is_empty());
    }
    assert_eq!(call(&all, &["state", &all[2].id]).code(), 0);
}

fn one_that_fails_does_not_keep_the_others() {
    let all = three();
    call(&all, &["kill", &all[0].id, "KILL"]).ok();
    call(&all, &["kill", &all[2].id, "KILL"]).ok();
    eventually("both have ended", || running(&all) == [false, true, false]);
    let refused = call(&all, &["delete", "--regex", "."]);
    refused.fails(1, &all[1].id);
    assert_eq!(ids(&all), [all[1].id.as_str()]);
}

fn that_none_matches_is_no_error() {
    let all = three();
    call(&all, &["kill", "--regex", "^nobody", "KILL"]).ok();
    call(&all, &["delete", "--force", "--regex", "^nobody"]).ok();
    assert_eq!(running(&all), [true; 3]);
}

fn an_expression_that_is_none() {
    let all = three();
    call(&all, &["kill", "--regex", "web(", "KILL"]).fails(1, "web(");
    call(&all, &["delete", "--force", "--regex", "[z-a]"]).fails(1, "");
    assert_eq!(running(&all), [true; 3]);
}

fn no_container_was_ever_made() {
    let container = Bundle::new().probe(&["pause"]).container();
    let missing = container.file("no/such");
    let call = |verb: &str, words: &[&str]| {
        let call = ocirun_tests::Invocation::new(&ocirun_tests::runtime().program);
        call.arg("--root")
            .arg(&missing)
            .arg(verb)
            .args(words)
            .finish()
    };
    call("kill", &["--regex", "web", "KILL"]).ok();
    call("delete", &["--regex", "web"]).ok();
}

suite! {
    &[Need::Root, Need::NotRunc("has no such flag")] => [
        a_signal_to_all_that_match,
        it_is_found_anywhere_in_an_id,
        those_that_match_are_deleted,
        one_that_fails_does_not_keep_the_others,
        that_none_matches_is_no_error,
        no_container_was_ever_made,
    ],
    &[
        Need::Root,
        Need::NotRunc("has no such flag"),
        Need::NotCrun("1.8 crashes"),
    ] => [an_expression_that_is_none],
}
