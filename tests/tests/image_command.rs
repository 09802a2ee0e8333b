//! `ocirun image`: the commands of `ocirun-image`, wherever that is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

use ocirun_tests::image_support::{Bed, image_program};
use ocirun_tests::{Need, Suite, runtime};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A copy of the runtime in a directory of its own.
fn lone_runtime(bed: &Bed) -> PathBuf {
    let program = bed.path("bin/ocirun");
    fs::create_dir(bed.path("bin")).unwrap();
    fs::copy(&runtime().program, &program).unwrap();
    program
}

fn image(program: &Path, bed: &Bed, path: &Path) -> Output {
    Command::new(program)
        .args(["image", "--root"])
        .arg(bed.path("store"))
        .args(["--json", "ls"])
        .env("PATH", path)
        .output()
        .unwrap()
}

fn the_own_program_comes_first_then_path() {
    let bed = Bed::new();
    let program = lone_runtime(&bed);
    let elsewhere = bed.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let output = image(&program, &bed, &elsewhere);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(error.contains("ocirun-image: neither beside"), "{error}");
    std::os::unix::fs::symlink(image_program(), elsewhere.join("ocirun-image")).unwrap();
    assert_eq!(image(&program, &bed, &elsewhere).stdout, b"[]\n");
    let beside = bed.path("bin/ocirun-image");
    fs::write(&beside, "#!/bin/sh\necho \"$@\"\nexit 7\n").unwrap();
    fs::set_permissions(&beside, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = image(&program, &bed, &elsewhere);
    let arguments = format!("--root {} --json ls\n", bed.path("store").display());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), arguments);
    assert_eq!(output.status.code(), Some(7));
}

fn its_own_flags_and_help_are_reached() {
    let bed = Bed::new();
    let program = lone_runtime(&bed);
    let path = bed.path("elsewhere");
    fs::create_dir(&path).unwrap();
    std::os::unix::fs::symlink(image_program(), path.join("ocirun-image")).unwrap();
    let of = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).env("PATH", &path).output().unwrap()
    };
    let help = String::from_utf8(of(&["image", "--help"]).stdout).unwrap();
    assert!(
        help.contains("ocirun-image") && help.contains("unpack"),
        "{help}"
    );
    let ours = String::from_utf8(of(&["help", "image"]).stdout).unwrap();
    assert!(ours.contains("ocirun image - pulls"), "{ours}");
    let error = String::from_utf8(of(&["--root", "/x", "image", "ls"]).stderr).unwrap();
    assert!(error.contains("flags before the command"), "{error}");
}

/// One after the other: a program that was just written cannot run while another thread's child still has it open.
fn main() -> std::process::ExitCode {
    Suite::new()
        .sequential()
        .test(
            "the_own_program_comes_first_then_path",
            &[Need::Ocirun],
            the_own_program_comes_first_then_path,
        )
        .test(
            "its_own_flags_and_help_are_reached",
            &[Need::Ocirun],
            its_own_flags_and_help_are_reached,
        )
        .run()
}
