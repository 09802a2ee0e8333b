//! Resource limits of the process.
#![allow(clippy::unwrap_used, reason = "tests")]

use ocirun_tests::{Bundle, Need, differs_on_runc, suite};
use serde_json::{Value, json};

fn limits(list: Value) -> Value {
    let run = Bundle::new()
        .set("/process/rlimits", list)
        .probe(&["report"])
        .container()
        .run();
    run.ok().value()["rlimits"].take()
}

fn each_is_set_as_written() {
    let names = [
        "RLIMIT_AS",
        "RLIMIT_CORE",
        "RLIMIT_CPU",
        "RLIMIT_DATA",
        "RLIMIT_FSIZE",
        "RLIMIT_LOCKS",
        "RLIMIT_MEMLOCK",
        "RLIMIT_MSGQUEUE",
        "RLIMIT_NOFILE",
        "RLIMIT_NPROC",
        "RLIMIT_RSS",
        "RLIMIT_RTTIME",
        "RLIMIT_SIGPENDING",
        "RLIMIT_STACK",
    ];
    let numbers = |name: &str| match name {
        "RLIMIT_AS" | "RLIMIT_DATA" | "RLIMIT_STACK" | "RLIMIT_FSIZE" | "RLIMIT_RSS" => {
            (4 << 30, 8 << 30)
        }
        _ => (300_u64, 400_u64),
    };
    let list: Vec<Value> = names
        .iter()
        .map(|name| json!({"type": name, "soft": numbers(name).0, "hard": numbers(name).1}))
        .collect();
    let found = limits(Value::from(list));
    for name in names {
        let (soft, hard) = numbers(name);
        assert_eq!(found[name], json!({"soft": soft, "hard": hard}), "{name}");
    }
}

fn zero_and_no_limit() {
    let found = limits(json!([
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_FSIZE", "soft": u64::MAX, "hard": u64::MAX},
    ]));
    assert_eq!(found["RLIMIT_CORE"], json!({"soft": 0, "hard": 0}));
    assert_eq!(found["RLIMIT_FSIZE"], json!({"soft": null, "hard": null}));
}

fn an_unknown_name_is_refused() {
    let bundle = Bundle::new().set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]),
    );
    bundle.container().run().fails(1, "RLIMIT_NOSUCH");
}

fn soft_above_hard_is_refused() {
    let bundle = Bundle::new().set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]),
    );
    let container = bundle.container();
    container.run().fails(1, "");
    container.verb("state").fails(1, "container does not exist");
}

fn exec_has_the_same_limits() {
    let list = json!([
        {"type": "RLIMIT_SIGPENDING", "soft": 77, "hard": 88}, {"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88},
    ]);
    let container = Bundle::new()
        .set("/process/rlimits", list)
        .probe(&["pause"])
        .container();
    container.run_detached().ok();
    let found = container.exec(&["report"]).ok().value()["rlimits"].take();
    assert_eq!(found["RLIMIT_SIGPENDING"], json!({"soft": 77, "hard": 88}));
    assert_eq!(found["RLIMIT_NOFILE"]["hard"], 88);
    if !differs_on_runc(
        "Go raises its own soft limit of open files, and now and then the process gets that",
    ) {
        assert_eq!(found["RLIMIT_NOFILE"]["soft"], 77);
    }
}

suite! {
    &[Need::Root] => [
        each_is_set_as_written,
        zero_and_no_limit,
        an_unknown_name_is_refused,
        soft_above_hard_is_refused,
        exec_has_the_same_limits,
    ],
}
