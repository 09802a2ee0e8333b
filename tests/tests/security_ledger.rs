//! Every known vulnerability of runtimes for containers: the tests that try the attack on the runtime under test, or why
//! there is nothing to attack.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use ocirun_tests::suite;

/// Where tests are.
const SOURCES: [(&str, &str); 12] = [
    ("escapes", include_str!("escapes.rs")),
    ("races", include_str!("races.rs")),
    ("security", include_str!("security.rs")),
    ("mounts", include_str!("mounts.rs")),
    ("identity", include_str!("identity.rs")),
    ("exec", include_str!("exec.rs")),
    ("exec_identity", include_str!("exec_identity.rs")),
    ("sysctl", include_str!("sysctl.rs")),
    ("cgroups_v2", include_str!("cgroups_v2.rs")),
    ("root", include_str!("../../runtime-core/src/root.rs")),
    (
        "model",
        include_str!("../../runtime-core/src/root/model.rs"),
    ),
    ("spec", include_str!("../../runtime-core/src/spec.rs")),
];

/// What becomes of an attack.
enum Answer {
    /// These tests try it.
    Tried(&'static [&'static str]),
    /// There is nothing to try it on.
    Nothing(&'static str),
}

use Answer::{Nothing, Tried};

/// By year; those of one flaw together, whoever had it.
const VULNERABILITIES: [(&str, &str, Answer); 19] = [
    (
        "CVE-2016-3697",
        "a user of the image whose name is a number",
        Tried(&[
            "identity a_numeric_name_in_passwd_changes_no_id",
            "escapes exec_takes_no_user_of_the_image",
        ]),
    ),
    (
        "CVE-2016-9962",
        "a process on its way into a container is looked into",
        Tried(&[
            "escapes nobody_looks_into_a_process_that_joins",
            "escapes nobody_looks_into_a_process_made_beside",
            "escapes nobody_looks_into_a_process_that_waits",
        ]),
    ),
    (
        "CVE-2019-5736",
        "the runtime's own program is overwritten by /proc/PID/exe, a script for it, or a loader of the image's",
        Tried(&[
            "escapes the_program_cannot_be_seized",
            "escapes the_program_needs_no_loader_of_the_image",
            "security the_program_of_the_runtime_cannot_be_overwritten",
            "security the_runtime_as_its_own_payload_harms_nothing",
        ]),
    ),
    (
        "CVE-2019-16884",
        "a volume over /proc takes the labels",
        Tried(&[
            "escapes a_false_proc_is_refused",
            "mounts a_mount_inside_proc_is_refused",
            "security a_hostile_proc_behind_a_link_in_the_path",
        ]),
    ),
    (
        "CVE-2019-18837",
        "links of the image as targets of mounts",
        Tried(&[
            "mounts a_link_as_target_stays_inside",
            "escapes missing_targets_are_made_inside",
            "root walker_and_kernel_agree",
            "root makes_only_inside",
            "model kernel_walker_and_model_agree",
            "model nothing_is_made_outside",
        ]),
    ),
    (
        "CVE-2019-19921 CVE-2023-27561 CVE-2023-28642 CVE-2025-54867 CVE-2025-62161",
        "/proc or /sys of the image is a link, or becomes one",
        Tried(&[
            "mounts proc_or_sys_that_is_a_link_is_refused",
            "races proc_and_sys",
        ]),
    ),
    (
        "CVE-2021-30465",
        "a target of a mount becomes a link between the look and the mount",
        Tried(&[
            "races targets_of_mounts",
            "races a_sibling_with_the_same_volume",
            "races masked_and_read_only_paths",
        ]),
    ),
    (
        "CVE-2021-43784",
        "a length that overflows in the configuration's way to the first process",
        Nothing(
            "that process has the plan in its memory by clone3(2), and is sent nothing that has a length",
        ),
    ),
    (
        "CVE-2022-29162 CVE-2022-27650 CVE-2022-24769 CVE-2025-27612",
        "inheritable capabilities nobody asked for",
        Tried(&[
            "security exec_gives_no_inheritable_capabilities",
            "spec granted_capabilities_are_ambient_only_where_inheritable",
            "exec_identity each_combination",
            "identity capabilities_as_listed",
        ]),
    ),
    (
        "CVE-2023-25809",
        "the host's cgroups, writable, where there is no cgroup namespace",
        Tried(&[
            "escapes a_cgroup_mount_ends_at_its_own",
            "mounts a_cgroup_mount_shows_only_its_own",
            "cgroups_v2 without_a_namespace_only_the_own_cgroup_is_shown",
        ]),
    ),
    (
        "CVE-2024-21626",
        "a descriptor of the host as a working directory or as the way to a program",
        Tried(&[
            "security a_working_directory_through_a_descriptor",
            "escapes a_working_directory_behind_a_link",
            "escapes a_program_through_a_descriptor",
            "escapes a_program_through_a_descriptor_of_a_careless_caller",
            "escapes a_passed_directory_is_no_working_directory",
            "security only_standard_descriptors_are_open",
            "security descriptors_of_a_careless_caller_stay_outside",
            "security descriptors_of_a_careless_caller_of_exec_stay_outside",
            "races working_directories",
        ]),
    ),
    (
        "CVE-2024-45310",
        "directories and files are made on the host while a target's path changes",
        Tried(&[
            "races targets_of_mounts",
            "escapes missing_targets_are_made_inside",
        ]),
    ),
    (
        "CVE-2025-24965",
        "a file of a virtual machine's handler is written outside of the root",
        Nothing(
            "there are no handlers: a container is processes, and its annotations choose no other way to run them",
        ),
    ),
    (
        "CVE-2025-31133",
        "the image's /dev/null is a link, and what it leads to masks a path, writable",
        Tried(&[
            "escapes a_false_null_device_masks_nothing_else",
            "escapes a_host_without_a_null_device_masks_nothing",
            "security a_false_dev_null_masks_nothing_else",
            "races sources_of_masks",
        ]),
    ),
    (
        "CVE-2025-52565",
        "the image's /dev/console or /dev/pts leads elsewhere when the terminal is mounted",
        Tried(&[
            "escapes a_console_that_is_a_link_is_refused",
            "escapes a_false_ptmx_is_refused",
            "escapes a_slave_is_not_looked_up_by_name",
        ]),
    ),
    (
        "CVE-2025-52881 CVE-2025-62596",
        "what is written to files of procfs goes to another file",
        Tried(&[
            "escapes a_false_proc_takes_no_kernel_parameter",
            "races proc_and_sys",
            "sysctl parameters_of_the_whole_machine_are_refused",
        ]),
    ),
    (
        "CVE-2026-30892",
        "words of `exec --user` that are half a number",
        Tried(&["exec a_user_that_is_no_number_is_refused", "spec users"]),
    ),
    (
        "CVE-2026-41579 CVE-2026-47766",
        "the image's /dev is a link, and nodes and links are made where it leads",
        Tried(&[
            "escapes a_dev_that_is_a_link_stays_inside",
            "races device_nodes",
        ]),
    ),
    (
        "CVE-2018-15664",
        "files are copied by paths that change",
        Nothing("no verb copies; tmpcopyup copies between two descriptors, and follows no link"),
    ),
];

fn every_vulnerability_is_tried_or_cannot_be() {
    for (names, attack, answer) in &VULNERABILITIES {
        match answer {
            Nothing(why) => assert!(!why.is_empty(), "{names}"),
            Tried(tests) => {
                assert!(!tests.is_empty(), "{names}: {attack}");
                tests.iter().for_each(|test| runs(names, test));
            }
        }
    }
}

/// The test is there, and in its file's list of those that run.
fn runs(vulnerability: &str, test: &str) {
    let (file, name) = test.split_once(' ').unwrap();
    let source = SOURCES.iter().find(|(known, _)| *known == file);
    let source = source
        .unwrap_or_else(|| panic!("{vulnerability}: no file {file}"))
        .1;
    let at = source.find(&format!("fn {name}()"));
    let at = at.unwrap_or_else(|| panic!("{vulnerability}: no test {test}"));
    let runs = match source.find("suite! {") {
        Some(suite) => words(&source[suite..]).any(|word| word == name),
        None => source[..at].trim_end().ends_with("#[test]"),
    };
    assert!(runs, "{vulnerability}: {test} is not run");
}

/// Whatever a test says that it is about is in the list.
fn every_name_in_the_tests_is_in_the_list() {
    let listed: BTreeSet<&str> = VULNERABILITIES
        .iter()
        .flat_map(|(names, _, _)| names.split(' '))
        .collect();
    for (file, source) in SOURCES {
        for name in words(&source.replace('-', "_")).filter(|word| word.starts_with("CVE_")) {
            let name = name.replace('_', "-");
            assert!(listed.contains(name.as_str()), "{file}: {name}");
        }
    }
}

/// A test of attacks that is in no line is one whose reason is forgotten.
fn every_escape_has_its_line() {
    let (_, source) = SOURCES[0];
    let suite = &source[source.find("suite! {").unwrap()..];
    for name in source.lines().filter_map(|line| line.strip_prefix("fn ")) {
        let name = name.split('(').next().unwrap();
        if !words(suite).any(|word| word == name) {
            continue;
        }
        let is_listed = VULNERABILITIES.iter().any(|(_, _, answer)| match answer {
            Tried(tests) => tests.contains(&format!("escapes {name}").as_str()),
            Nothing(_) => false,
        });
        assert!(is_listed, "{name}");
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

suite! {
    &[] => [
        every_vulnerability_is_tried_or_cannot_be,
        every_name_in_the_tests_is_in_the_list,
        every_escape_has_its_line,
    ],
}
