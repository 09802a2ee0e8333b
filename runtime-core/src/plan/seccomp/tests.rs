use serde_json::{Value, json};

use super::architecture::{Abi, Call};
use super::interpreter::{self, run};
use super::{Program, compile_for};
use crate::error::{Error, ErrorKind};
use crate::spec::seccomp::{Architecture, Seccomp};

mod peer;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const S390X: u32 = 0x8000_0016;
const X32: u32 = 1 << 30;

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0;
const EPERM: u32 = 0x5_0001;
const ENOSYS: u32 = 0x5_0026;

fn profile(written: Value) -> Seccomp {
    serde_json::from_value(written).unwrap()
}

fn program(written: Value) -> Program {
    compile_for(&profile(written), Architecture::X86_64).unwrap()
}

fn refusal(written: Value) -> Error {
    compile_for(&profile(written), Architecture::X86_64).unwrap_err()
}

/// What `program` says about a call of x86-64.
fn ask(program: &Program, number: u32, arguments: [u64; 6]) -> u32 {
    ask_of(program, X86_64, number, arguments)
}

fn ask_of(program: &Program, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let call = interpreter::Call::new(architecture, number, arguments);
    run(program.instructions(), &call)
}

fn number(name: &str, architecture: Architecture) -> Option<u32> {
    Abi::of(architecture).unwrap().number(Call::of(name, None)?)
}

#[test]
fn every_action_has_its_verdict() {
    let table = [
        ("SCMP_ACT_KILL", None, KILL),
        ("SCMP_ACT_KILL_THREAD", None, KILL),
        ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
        ("SCMP_ACT_TRAP", None, 0x3_0000),
        ("SCMP_ACT_ERRNO", None, EPERM),
        ("SCMP_ACT_ERRNO", Some(38), ENOSYS),
        ("SCMP_ACT_ERRNO", Some(0), 0x5_0000),
        ("SCMP_ACT_ERRNO", Some(0xffff), 0x5_ffff),
        ("SCMP_ACT_NOTIFY", None, 0x7fc0_0000),
        ("SCMP_ACT_TRACE", None, 0x7ff0_0001),
        ("SCMP_ACT_TRACE", Some(0x1234), 0x7ff0_1234),
        ("SCMP_ACT_LOG", None, 0x7ffc_0000),
        ("SCMP_ACT_ALLOW", None, ALLOW),
    ];
    for (action, errno, verdict) in table {
        let rule = json!({"names": ["getcwd"], "action": action, "errnoRet": errno});
        let of_rule = program(json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent", "syscalls": [rule],
        }));
        assert_eq!(ask(&of_rule, 79, [0; 6]), verdict, "{action} {errno:?}");
        assert_eq!(ask(&of_rule, 80, [0; 6]), ALLOW, "{action} {errno:?}");
        if action != "SCMP_ACT_NOTIFY" {
            let default = program(json!({"defaultAction": action, "defaultErrnoRet": errno}));
            assert_eq!(ask(&default, 79, [0; 6]), verdict, "{action} {errno:?}");
        }
    }
}

#[test]
fn every_operator_compares_64_bits() {
    type Holds = fn(u64, u64) -> bool;
    let table: [(&str, Holds); 6] = [
        ("SCMP_CMP_EQ", |a, b| a == b),
        ("SCMP_CMP_NE", |a, b| a != b),
        ("SCMP_CMP_LT", |a, b| a < b),
        ("SCMP_CMP_LE", |a, b| a <= b),
        ("SCMP_CMP_GT", |a, b| a > b),
        ("SCMP_CMP_GE", |a, b| a >= b),
    ];
    let halves = [0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
    let values: Vec<u64> = halves
        .iter()
        .flat_map(|upper| halves.map(|lower| upper << 32 | lower))
        .collect();
    let condition = |op: &str, value: u64, second: u64| {
        program(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{
                "names": ["getcwd"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 5, "value": value, "valueTwo": second, "op": op}],
            }],
        }))
    };
    for value in &values {
        for (op, holds) in table {
            let program = condition(op, *value, 7);
            for argument in &values {
                let denied = ask(&program, 79, [9, 9, 9, 9, 9, *argument]) == EPERM;
                assert_eq!(
                    denied,
                    holds(*argument, *value),
                    "{argument:#x} {op} {value:#x}"
                );
            }
        }
        for mask in &values {
            let program = condition("SCMP_CMP_MASKED_EQ", *mask, *value);
            for argument in &values {
                let denied = ask(&program, 79, [9, 9, 9, 9, 9, *argument]) == EPERM;
                assert_eq!(
                    denied,
                    argument & mask == value & mask,
                    "{argument:#x} & {mask:#x}"
                );
            }
        }
    }
}

#[test]
fn big_endian_halves_are_found() {
    let written = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"],
        "syscalls": [{
            "names": ["getcwd"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": 0x1_0000_0002_u64, "op": "SCMP_CMP_EQ"}],
        }],
    });
    let program = compile_for(&profile(written), Architecture::S390X).unwrap();
    let mut call = interpreter::Call::new(S390X, 183, [0, 0x1_0000_0002, 0, 0, 0, 0]);
    call.is_big_endian = true;
    assert_eq!(run(program.instructions(), &call), EPERM);
    call.arguments[1] = 0x2_0000_0001;
    assert_eq!(run(program.instructions(), &call), ALLOW);
}

/// Rules of `socket`; what they say about its first two arguments.
#[test]
fn rules_of_one_call() {
    let eq = |index: u32, value: u64| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let rule =
        |action: &str, args: Value| json!({"names": ["socket"], "action": action, "args": args});
    let deny = |args: Value| rule("SCMP_ACT_ERRNO", args);
    let log = |args: Value| rule("SCMP_ACT_LOG", args);
    let logged = 0x7ffc_0000;
    let table = [
        // All conditions of a rule, any of several rules.
        (
            json!([deny(json!([eq(0, 1), eq(1, 2)]))]),
            [(1, 2, EPERM), (1, 3, ALLOW), (3, 2, ALLOW)],
        ),
        (
            json!([deny(json!([eq(0, 1)])), deny(json!([eq(1, 2)]))]),
            [(1, 9, EPERM), (9, 2, EPERM), (9, 9, ALLOW)],
        ),
        // One argument twice: each by itself.
        (
            json!([deny(json!([eq(0, 1), eq(0, 2), eq(1, 3)]))]),
            [(1, 9, EPERM), (9, 3, EPERM), (9, 9, ALLOW)],
        ),
        // Without conditions it holds whatever else is said, before or after; the first of two does.
        (
            json!([deny(json!([eq(0, 1)])), log(json!([]))]),
            [(1, 0, logged), (2, 0, logged), (3, 3, logged)],
        ),
        (
            json!([log(Value::Null), deny(json!([eq(0, 1)]))]),
            [(1, 0, logged), (2, 0, logged), (3, 3, logged)],
        ),
        (
            json!([log(json!([])), deny(json!([]))]),
            [(1, 0, logged), (2, 0, logged), (3, 3, logged)],
        ),
        // What is done by default is not a rule.
        (
            json!([rule("SCMP_ACT_ALLOW", json!([])), deny(json!([eq(0, 1)]))]),
            [(1, 0, EPERM), (2, 0, ALLOW), (1, 9, EPERM)],
        ),
        // Two that match: the later argument decides.
        (
            json!([deny(json!([eq(0, 1)])), log(json!([eq(1, 2)]))]),
            [(1, 2, logged), (1, 3, EPERM), (9, 2, logged)],
        ),
        // A mask of nothing is no condition.
        (
            json!([deny(
                json!([{"index": 0, "value": 0, "valueTwo": 5, "op": "SCMP_CMP_MASKED_EQ"}])
            )]),
            [(1, 0, EPERM), (0, 0, EPERM), (9, 9, EPERM)],
        ),
    ];
    for (rules, expected) in table {
        let program = program(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}));
        for (first, second, verdict) in expected {
            let found = ask(&program, 41, [first, second, 0, 0, 0, 0]);
            assert_eq!(found, verdict, "{rules} of {first}, {second}");
        }
    }
}

#[test]
fn other_architectures_are_killed() {
    let written = |architectures: Value| {
        program(json!({
            "defaultAction": "SCMP_ACT_LOG", "architectures": architectures,
            "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_ALLOW"}],
        }))
    };
    let logged = 0x7ffc_0000;
    let tracer_skips = u32::MAX;
    for absent in [
        json!(null),
        json!([]),
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_MIPS"]),
    ] {
        let native_only = written(absent);
        let table = [
            (X86_64, 79, ALLOW),
            (X86_64, 80, logged),
            (X86_64, X32 - 1, logged),
            (X86_64, X32, KILL),
            (X86_64, X32 | 79, KILL),
            (X86_64, tracer_skips - 1, KILL),
            (X86_64, tracer_skips, logged),
            (X86, 183, KILL),
            (AARCH64, 17, KILL),
        ];
        for (architecture, number, verdict) in table {
            let found = ask_of(&native_only, architecture, number, [0; 6]);
            assert_eq!(found, verdict, "{architecture:#x} {number:#x}");
        }
    }
    let all = written(json!([
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X32"
    ]));
    let table = [
        (X86_64, 79, ALLOW),
        (X86_64, X32 | 79, ALLOW),
        (X86_64, X32 | 80, logged),
        (X86_64, tracer_skips, logged),
        (X86, 183, ALLOW),
        (X86, 79, logged),
        (AARCH64, 17, KILL),
    ];
    for (architecture, number, verdict) in table {
        let found = ask_of(&all, architecture, number, [0; 6]);
        assert_eq!(found, verdict, "{architecture:#x} {number:#x}");
    }
}

/// x86 and x32 have 32 bits of an argument, whatever the register holds.
#[test]
fn narrow_architectures_compare_the_lower_half() {
    let program = program(json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{
            "names": ["getcwd"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": u64::MAX, "op": "SCMP_CMP_EQ"}],
        }],
    }));
    for (architecture, number, verdict) in [
        (X86, 183, EPERM),
        (X86_64, X32 | 79, EPERM),
        (X86_64, 79, ALLOW),
    ] {
        let minus_one = [0xffff_ffff, 0, 0, 0, 0, 0];
        assert_eq!(ask_of(&program, architecture, number, minus_one), verdict);
    }
}

#[test]
fn a_socket_call_of_x86_has_two_ways() {
    let program = program(json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["accept", "bind"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["shmget"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}]},
        ],
    }));
    let (socketcall, bind, ipc, shmget) = (102, 361, 117, 395);
    let table = [
        (socketcall, [5, 0], EPERM),
        (socketcall, [2, 0], EPERM),
        (socketcall, [3, 0], ALLOW),
        (bind, [0, 0], EPERM),
        (ipc, [23, 9], EPERM),
        (ipc, [23, 8], ALLOW),
        (ipc, [24, 9], ALLOW),
        (shmget, [0, 9], EPERM),
    ];
    for (number, [first, second], verdict) in table {
        let found = ask_of(&program, X86, number, [first, second, 0, 0, 0, 0]);
        assert_eq!(found, verdict, "{number} {first} {second}");
    }
}

#[test]
fn calls_newer_than_the_profile_are_not_there() {
    let written = |default: &str, errno: Option<u32>, architectures: Value| {
        program(json!({
            "defaultAction": default, "defaultErrnoRet": errno, "architectures": architectures,
            // getrandom is 318 on x86-64, 355 on x86. The rule that changes nothing counts too.
            "syscalls": [
                {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["getrandom"], "action": default, "errnoRet": errno},
            ],
        }))
    };
    let both = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    let denied = written("SCMP_ACT_ERRNO", None, both.clone());
    let table = [
        (X86_64, 0, ALLOW),
        (X86_64, 1, EPERM),
        (X86_64, 318, EPERM),
        (X86_64, 319, ENOSYS),
        (X86_64, X32 - 1, ENOSYS),
        (X86_64, X32, ALLOW),
        (X86_64, X32 | 318, EPERM),
        (X86_64, X32 | 319, ENOSYS),
        (X86, 355, EPERM),
        (X86, 356, ENOSYS),
        (AARCH64, 1000, KILL),
    ];
    for (architecture, number, verdict) in table {
        let found = ask_of(&denied, architecture, number, [0; 6]);
        assert_eq!(found, verdict, "{architecture:#x} {number:#x}");
    }
    for default in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        assert_eq!(
            ask(&written(default, None, both.clone()), 319, [0; 6]),
            ENOSYS
        );
    }
    for (default, verdict) in [
        ("SCMP_ACT_ALLOW", ALLOW),
        ("SCMP_ACT_LOG", 0x7ffc_0000),
        ("SCMP_ACT_TRACE", 0x7ff0_0001),
    ] {
        assert_eq!(
            ask(&written(default, None, both.clone()), 319, [0; 6]),
            verdict
        );
    }
    let architectures_not_named = written("SCMP_ACT_ERRNO", None, json!([]));
    assert_eq!(ask(&architectures_not_named, 319, [0; 6]), EPERM);
}

/// On S/390, setup(2) is what the kernel makes of a number that it does not know.
#[test]
fn setup_of_s390_is_not_there() {
    let written = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_S390X"],
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}],
    });
    let program = compile_for(&profile(written), Architecture::S390X).unwrap();
    for (number, verdict) in [(0, ENOSYS), (1, EPERM), (3, ALLOW), (4, ENOSYS)] {
        assert_eq!(ask_of(&program, S390X, number, [0; 6]), verdict, "{number}");
    }
}

#[test]
fn flags_of_the_kernel() {
    let notify = json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]);
    let (log, spec_allow, listener, killable) = (2, 4, 8, 32);
    let table = [
        (Value::Null, json!([]), spec_allow),
        (json!([]), json!([]), 0),
        (json!(["SECCOMP_FILTER_FLAG_TSYNC"]), json!([]), 0),
        (json!(["SECCOMP_FILTER_FLAG_LOG"]), json!([]), log),
        (
            json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"]),
            json!([]),
            spec_allow | log,
        ),
        (
            json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
            json!([]),
            0,
        ),
        (Value::Null, notify.clone(), spec_allow | listener),
        (
            json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
            notify,
            listener | killable,
        ),
    ];
    for (written, rules, flags) in table {
        let program = program(json!({
            "defaultAction": "SCMP_ACT_ALLOW", "flags": written, "listenerPath": "/agent", "syscalls": rules,
        }));
        assert_eq!(program.flags(), flags, "{written} {rules}");
        assert_eq!(program.agent().is_some(), flags & listener != 0);
    }
}

#[test]
fn mistakes_are_named() {
    let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_TRAP"}, rule]});
    let eq = |index: u32| json!({"index": index, "value": 1, "op": "SCMP_CMP_EQ"});
    let table = [
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "defaultAction"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "defaultErrnoRet",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 65536}),
            "defaultErrnoRet",
        ),
        (
            rule(json!({"names": ["open"], "action": "SCMP_ACT_KILL", "errnoRet": 1})),
            "syscalls/1/errnoRet",
        ),
        (
            rule(json!({"names": ["open"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536})),
            "syscalls/1/errnoRet",
        ),
        (
            rule(json!({"names": ["open", ""], "action": "SCMP_ACT_TRAP"})),
            "syscalls/1/names/1",
        ),
        (
            rule(json!({"names": ["open", "write"], "action": "SCMP_ACT_NOTIFY"})),
            "syscalls/1/names/1",
        ),
        (
            rule(json!({"names": ["open"], "action": "SCMP_ACT_NOTIFY"})),
            "listenerPath",
        ),
        (
            rule(json!({"names": ["open"], "action": "SCMP_ACT_TRAP", "args": [eq(0), eq(6)]})),
            "syscalls/1/args/1/index",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["open"], "action": "SCMP_ACT_TRAP", "args": [eq(0)]},
                {"names": ["open"], "action": "SCMP_ACT_LOG", "args": [eq(0)]},
            ]}),
            "syscalls/1",
        ),
    ];
    for (written, pointer) in table {
        let error = refusal(written);
        let pointer = format!("/linux/seccomp/{pointer}");
        assert_eq!(error.kind(), &ErrorKind::InvalidSpec { pointer }, "{error}");
    }
}

#[test]
fn unknown_words_are_refused() {
    for (written, word) in [
        (json!({"defaultAction": "SCMP_ACT_X"}), "SCMP_ACT_X"),
        (
            json!({"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_X"]}),
            "SCMP_ARCH_X",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_X"]}),
            "SECCOMP_X",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_LOG", "syscalls": [
                {"names": [], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_X"}]},
            ]}),
            "SCMP_CMP_X",
        ),
    ] {
        let error = serde_json::from_value::<Seccomp>(written).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_program_too_long_is_refused() {
    let rules = |count: u32| -> Vec<Value> {
        let args = |value| json!([{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]);
        let rule =
            |value| json!({"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "args": args(value)});
        (0..count).map(rule).collect()
    };
    let written = |count| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules(count)});
    let fits = program(written(900));
    for (argument, verdict) in [(0, EPERM), (450, EPERM), (899, EPERM), (900, ALLOW)] {
        assert_eq!(
            ask(&fits, 79, [argument, 0, 0, 0, 0, 0]),
            verdict,
            "{argument}"
        );
    }
    let error = refusal(written(1100));
    assert_eq!(error.pointer(), Some("/linux/seccomp/syscalls"), "{error}");
}

#[test]
fn the_table_is_that_of_the_kernel() {
    use Architecture::{Aarch64, Arm, RiscV64, X32, X86, X86_64};
    let table = [
        ("_llseek", X86, Some(140)),
        ("_llseek", X86_64, None),
        ("writev", X86_64, Some(20)),
        (
            "writev",
            X32,
            Some(super::architecture::X32_SYSCALL_BIT | 516),
        ),
        ("openat", Aarch64, Some(56)),
        ("open", Aarch64, None),
        ("cacheflush", Arm, Some(0xf_0002)),
        ("set_tls", Arm, Some(0xf_0005)),
        ("riscv_flush_icache", RiscV64, Some(259)),
        ("no_such_call", X86_64, None),
        ("", X86_64, None),
    ];
    for (name, architecture, expected) in table {
        assert_eq!(
            number(name, architecture),
            expected,
            "{name} {architecture:?}"
        );
    }
    #[cfg(target_arch = "x86_64")]
    for (name, expected) in [
        ("read", libc::SYS_read),
        ("execveat", libc::SYS_execveat),
        ("futex_waitv", libc::SYS_futex_waitv),
        ("mseal", libc::SYS_mseal),
    ] {
        assert_eq!(
            number(name, X86_64).map(i64::from),
            Some(expected),
            "{name}"
        );
    }
}
