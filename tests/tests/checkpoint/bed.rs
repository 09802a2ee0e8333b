//! What the tests of checkpoint and restore stand on.

use std::fs;
use std::path::PathBuf;

use ocirun_tests::{Bundle, Container, Finished, Invocation, eventually, program_in_path};

/// Counts in a file, as long as it runs.
pub const COUNT: &str = "i=0; while sleep 0.05; do i=$((i+1)); echo $i > /tmp/count; done";

pub fn with_busybox(script: &str) -> Bundle {
    let bundle =
        Bundle::new()
            .set("/root/readonly", false)
            .args(&["/bin/busybox", "sh", "-c", script]);
    let busybox = program_in_path("busybox").unwrap();
    fs::copy(busybox, bundle.inside("/bin/busybox")).unwrap();
    for name in ["sleep", "sh", "nc", "cat", "flock", "md5sum", "mkdir", "rm"] {
        std::os::unix::fs::symlink("busybox", bundle.inside("/bin").join(name)).unwrap();
    }
    bundle
}

pub fn read(container: &Container, path: &str) -> String {
    let text = fs::read_to_string(container.bundle.inside(path)).unwrap_or_default();
    text.trim().to_owned()
}

pub fn count(container: &Container) -> u32 {
    read(container, "/tmp/count").parse().unwrap_or_default()
}

/// `run --detach`, until it counts.
pub fn counting(bundle: Bundle) -> Container {
    let container = bundle.container();
    container.run_detached().ok();
    eventually("it counts", || count(&container) > 2);
    container
}

pub fn images(container: &Container) -> PathBuf {
    container.file("images")
}

pub fn checkpoint(container: &Container, flags: &[&str]) -> Finished {
    let call = container.command("checkpoint").arg("--image-path");
    call.arg(images(container))
        .args(flags)
        .arg(&container.id)
        .finish()
}

pub fn restore(container: &Container, flags: &[&str]) -> Invocation {
    let call = container.command("restore").arg("--image-path");
    call.arg(images(container))
        .arg("--bundle")
        .arg(container.bundle.path())
        .args(flags)
        .arg(&container.id)
}

#[track_caller]
pub fn goes_on(container: &Container, from: u32) {
    assert_eq!(container.status(), "running");
    eventually("it goes on", || count(container) > from + 2);
}
