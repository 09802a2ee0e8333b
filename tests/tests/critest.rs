//! critest, the test of the interface's own project, against a node of its own: images and networks are made here.
//!
//! The program is taken from PATH; `tests/critest.sh` builds it. `CRITEST_FOCUS` chooses tests, `CRITEST_MINUTES` is how long
//! all may take (30), `CRITEST_LOG` keeps its words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart};
use ocirun_tests::image_support::{
    FakeRegistry, Header, Image, Request, Tar, digest, gzip, honest,
};
use ocirun_tests::{Need, own_program, program_in_path, suite};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// The one test whose image has a digest that is compiled in: `cri_images.rs` pulls by digest in its place.
const SKIPPED: &str = "public image with digest";

/// An executable file of an archive.
fn program(tar: Tar, name: &str, content: &[u8], mode: u32) -> Tar {
    let header = Header {
        mode,
        size: content.len() as u64,
        ..Header::new(b'0', name)
    };
    tar.entry(&header, content)
}

/// A small system with all that busybox can be: by links, for one of them is masked, and the others are to stay.
fn system(programs: &[u8]) -> Tar {
    let busybox = program_in_path("busybox").unwrap();
    let applets = Command::new(&busybox)
        .arg("--list")
        .output()
        .unwrap()
        .stdout;
    let applets = String::from_utf8(applets).unwrap();
    let dirs = [
        "bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr", "usr/bin", "usr/sbin", "var",
        "var/run",
    ];
    let tar = dirs.into_iter().fold(Tar::new(), |tar, dir| {
        tar.dir(dir, if dir == "tmp" { 0o1777 } else { 0o755 })
    });
    let tar = program(tar, "bin/busybox", &std::fs::read(busybox).unwrap(), 0o755);
    let names = applets
        .lines()
        .filter(|name| !["busybox", "sh"].contains(name));
    let tar = names.fold(tar, |tar, name| {
        tar.link("bin/busybox", &format!("bin/{name}"))
    });
    let tar = program(tar, "usr/bin/pgrep", programs, 0o755);
    let tar = tar
        .link("usr/bin/pgrep", "bin/sh")
        .link("usr/bin/pgrep", "usr/bin/ipcs")
        .link("usr/bin/pgrep", "usr/sbin/nginx");
    let passwd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\n\
                  default-user:x:1000:1000::/home/default-user:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    let group = "root:x:0:\nwww-data:x:33:\ndefault-user:x:1000:\n\
                 group-defined-in-image:x:50000:default-user\nnogroup:x:65534:\n";
    tar.file("etc/passwd", passwd.as_bytes())
        .file("etc/group", group.as_bytes())
}

fn image(tar: Tar, config: &Value) -> Image {
    let tar = tar.end();
    Image::of(&[(gzip(&tar), digest(&tar))], config)
}

/// All images, by the end of their name and their tag; the first that fits is it.
fn images() -> Vec<(&'static str, Image)> {
    let programs = std::fs::read(own_program("ocirun-critest-programs")).unwrap();
    let system = || system(&programs);
    let marked = |mark: &str| {
        image(
            system().file("mark", mark.as_bytes()),
            &json!({"Cmd": ["sh"]}),
        )
    };
    let of_user = |user: &str| image(system(), &json!({"Cmd": ["sh"], "User": user}));
    let web = |port: &str| {
        image(
            system(),
            &json!({"Cmd": ["/usr/sbin/nginx", port, "master process"]}),
        )
    };
    let nnp = program(system(), "nnp", &programs, 0o4755);
    vec![
        ("nginx:1.14-2", web("80")),
        ("httpd:2.4.39-4", web("80")),
        ("hostnet-nginx-amd64:latest", web("12003")),
        ("nonewprivs:1.3", image(nnp, &json!({"Cmd": ["/nnp"]}))),
        ("test-image-user-uid:latest", of_user("1002")),
        ("test-image-user-username:latest", of_user("www-data")),
        ("test-image-user-uid-group:latest", of_user("1003:1004")),
        (
            "test-image-user-username-group:latest",
            of_user("www-data:1004"),
        ),
        ("test-image-predefined-group:latest", of_user("1000")),
        ("test-image-latest:latest", marked("latest")),
        ("test-image-tag:test", marked("test")),
        ("test-image-tag:all", marked("all")),
        ("test-image-1:latest", marked("1")),
        ("test-image-2:latest", marked("2")),
        ("test-image-3:latest", marked("3")),
        ("test-image-tags:1", marked("tags")),
        ("test-image-tags:2", marked("tags")),
        ("test-image-tags:3", marked("tags")),
        ("pause:3.9", marked("pause")),
        ("busybox:1.29-2", image(system(), &json!({"Cmd": ["sh"]}))),
    ]
}

/// A registry that is a mirror of all others, as far as critest looks.
fn registry() -> FakeRegistry {
    let images = images();
    FakeRegistry::start(move |request: &Request| {
        let path = request.path.split('?').next().unwrap_or_default();
        let found = if let Some((repository, reference)) = path.split_once("/manifests/") {
            let name = repository.rsplit('/').next().unwrap_or_default();
            let full = format!("{name}:{reference}");
            images.iter().find(|(known, image)| {
                *known == full
                    || (known.starts_with(&format!("{name}:")) && image.manifest == reference)
            })
        } else {
            let blob = path.rsplit('/').next().unwrap_or_default();
            images
                .iter()
                .find(|(_, image)| image.blobs.contains_key(blob))
        };
        match found {
            Some((_, image)) => honest(image, request),
            None if path == "/v2/" => {
                ocirun_tests::image_support::Answer::Whole(200, Vec::new(), b"{}".to_vec())
            }
            None => ocirun_tests::image_support::Answer::Whole(404, Vec::new(), b"{}".to_vec()),
        }
    })
}

fn node() -> Node {
    let mut node = Node::with(registry());
    node.kill();
    for dir in ["cri.d", "net.d", "certs.d", "certs.d/_default"] {
        std::fs::create_dir(node.path(dir)).unwrap();
    }
    let mirror = format!(
        "[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        node.registry.host
    );
    std::fs::write(node.path("certs.d/_default/hosts.toml"), mirror).unwrap();
    let drop_in = format!("[network]\nconf_dir = {:?}\n", node.path("net.d"));
    std::fs::write(node.path("cri.d/10.toml"), drop_in).unwrap();
    let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]], "dataDir": node.path("ipam"),
        "routes": [{"dst": "0.0.0.0/0"}]});
    let list = json!({"cniVersion": "1.0.0", "name": "critest", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": ipam},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]});
    std::fs::write(node.path("net.d/10-critest.conflist"), list.to_string()).unwrap();
    node.start();
    node
}

fn nothing_fails() {
    apart(|| {
        // Mounts that containers pass on are seen by the host only where its own are shared.
        let shared = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_SHARED;
        nix::mount::mount(None::<&str>, "/", None::<&str>, shared, None::<&str>).unwrap();
        let node = node();
        let socket = format!("unix://{}", node.path("run/cri.sock").display());
        let mut command = Command::new("critest");
        command
            .arg(format!("-runtime-endpoint={socket}"))
            .arg(format!("-image-endpoint={socket}"))
            .arg(format!("-ginkgo.skip={SKIPPED}"))
            .arg("-ginkgo.no-color");
        let minutes = std::env::var("CRITEST_MINUTES").unwrap_or_else(|_| "30".to_owned());
        command.arg(format!("-ginkgo.timeout={minutes}m"));
        if let Ok(focus) = std::env::var("CRITEST_FOCUS") {
            command.arg(format!("-ginkgo.focus={focus}"));
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let summary = text.lines().filter(|line| {
            line.contains(" Passed") || line.contains("[FAIL]") || line.contains("Ran ")
        });
        println!("{}", summary.collect::<Vec<_>>().join("\n"));
        if let Ok(file) = std::env::var("CRITEST_LOG") {
            std::fs::write(file, &text).unwrap();
        }
        assert!(
            output.status.success(),
            "{}",
            &text[text.len().saturating_sub(20_000)..]
        );
        assert!(text.contains(" 0 Failed"), "{text}");
    });
}

suite! {
    &[
        Need::Root, Need::Program("ip"), Need::Program("busybox"), Need::Program("critest"),
        Need::File("/usr/lib/cni/bridge"), Need::File("/usr/lib/cni/portmap"),
    ] => [
        nothing_fails,
    ],
}
