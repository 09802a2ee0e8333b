//! Beside others: Debian's registry over TLS with accounts, skopeo, umoci and GNU tar.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

use ocirun_tests::image_support::{Bed, Header, Image, Tar, listing, small};
use ocirun_tests::{Need, probe_program, program_in_path, suite};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whom a registry lets in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Admits {
    Account,
    Certificate,
}

/// docker-registry with TLS, gone when dropped.
struct DockerRegistry {
    child: Child,
    host: String,
    certificate: PathBuf,
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl DockerRegistry {
    fn start(bed: &Bed, admits: Admits) -> Self {
        let at = |name: &str| bed.path(name).to_str().unwrap().to_owned();
        let (key, certificate) = make_certificate(bed, "server", "CA:FALSE");
        make_certificate(bed, "client", "CA:TRUE");
        fs::write(
            bed.path("htpasswd"),
            run("htpasswd", &["-nbB", "user", "secret"]),
        )
        .unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let host = format!("127.0.0.1:{port}");
        let access = match admits {
            Admits::Account => format!(
                "auth: {{htpasswd: {{realm: basic, path: {}}}}}\n",
                at("htpasswd")
            ),
            Admits::Certificate => String::new(),
        };
        let clients = match admits {
            Admits::Account => String::new(),
            Admits::Certificate => format!(", clientcas: [{}]", at("client.pem")),
        };
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: {host}\n  tls: {{certificate: {certificate}, key: {key}{clients}}}\n{access}",
            at("data"),
        );
        fs::write(bed.path("registry.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", &at("registry.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while std::net::TcpStream::connect(&host).is_err() {
            assert!(
                begin.elapsed() < Duration::from_secs(10),
                "docker-registry does not answer"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            child,
            host,
            certificate: certificate.into(),
        }
    }

    /// Tells a store's configuration of the certificate.
    fn trust(&self, bed: &Bed) {
        let dir = bed.path("certs.d").join(&self.host);
        fs::create_dir_all(&dir).unwrap();
        fs::write(
            dir.join("hosts.toml"),
            format!("ca = {:?}\n", self.certificate),
        )
        .unwrap();
    }

    fn login(&self, bed: &Bed) {
        let mut child = bed
            .command(&["login", "-u", "user", "--password-stdin", &self.host])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"secret\n").unwrap();
        assert!(child.wait().unwrap().success());
    }
}

/// A certificate that signs itself, and its key: `NAME.key.pem` and `NAME.pem` beside the store.
fn make_certificate(bed: &Bed, name: &str, constraints: &str) -> (String, String) {
    let at = |kind: &str| {
        bed.path(&format!("{name}{kind}"))
            .to_str()
            .unwrap()
            .to_owned()
    };
    let (key, certificate) = (at(".key.pem"), at(".pem"));
    let kind = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    let mut arguments = kind.split(' ').collect::<Vec<_>>();
    let subject = format!("/CN={name}");
    let constraints = format!("basicConstraints=critical,{constraints}");
    arguments.extend(["-subj", &subject, "-addext", "subjectAltName=IP:127.0.0.1"]);
    arguments.extend([
        "-addext",
        &constraints,
        "-keyout",
        &key,
        "-out",
        &certificate,
    ]);
    run("openssl", &arguments);
    (key, certificate)
}

/// The registry wants a certificate of the client, named in the host's settings.
fn certificates_of_clients() {
    let bed = Bed::new();
    let registry = DockerRegistry::start(&bed, Admits::Certificate);
    let layout = bed.path("layout");
    small().write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/small:1"]);
    let name = format!("{}/team/small:1", registry.host);
    registry.trust(&bed);
    bed.fails(&["push", "t.io/small:1", &name]);
    let settings = bed.path("certs.d").join(&registry.host).join("hosts.toml");
    let with = |key: &str| {
        let pair = [bed.path("client.pem"), bed.path(key)];
        fs::write(
            &settings,
            format!("ca = {:?}\nclient = [{pair:?}]\n", registry.certificate),
        )
        .unwrap();
    };
    with("client.key.pem");
    let digest = bed.ok(&["push", "t.io/small:1", &name]);
    assert_eq!(bed.ok(&["pull", "-q", &name]), digest);
    // A key that is not the certificate's, and one that is not there.
    for key in ["server.key.pem", "absent.pem"] {
        with(key);
        let error = bed.fails(&["pull", "-q", &name]);
        assert!(error.len() < 1000, "{error}");
    }
}

fn debians_registry_with_tls_and_accounts() {
    let bed = Bed::new();
    let registry = DockerRegistry::start(&bed, Admits::Account);
    let layout = bed.path("layout");
    small().write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/small:1"]);
    let name = format!("{}/team/small:1", registry.host);
    let error = bed.fails(&["push", "t.io/small:1", &name]);
    assert!(
        error.contains("certificate") || error.contains("UnknownIssuer"),
        "{error}"
    );
    registry.trust(&bed);
    let error = bed.fails(&["push", "t.io/small:1", &name]);
    assert!(error.contains("401"), "{error}");
    registry.login(&bed);
    let digest = bed.ok(&["push", "t.io/small:1", &name]);
    // A second repository gets its layers by mounts.
    bed.ok(&["pull", "-q", &name]);
    bed.ok(&["push", &name, &format!("{}/other/small:2", registry.host)]);
    // skopeo reads what we pushed, and we read what it pushed.
    let oci = format!("oci:{}:x", bed.path("by-skopeo").display());
    skopeo_copy(&format!("docker://{name}"), &oci);
    skopeo_copy(&oci, &format!("docker://{}/skopeo/x:1", registry.host));
    let other = Bed::new();
    registry.trust(&other);
    registry.login(&other);
    assert_eq!(
        other.ok(&["pull", "-q", &format!("{}/skopeo/x:1", registry.host)]),
        digest
    );
    other.ok(&[
        "unpack",
        &format!("{}/skopeo/x:1", registry.host),
        other.path("r").to_str().unwrap(),
    ]);
    assert_eq!(
        fs::read(other.path("r/etc/passwd")).unwrap(),
        b"root:x:0:0::/:/bin/sh\n"
    );
    assert_eq!(
        other
            .ok(&[
                "--json",
                "referrers",
                &format!("{}/skopeo/x:1", registry.host)
            ])
            .trim(),
        "[]"
    );
    other.ok(&["logout", &registry.host]);
    assert!(other.fails(&["pull", "-q", &name]).contains("401"));
    assert!(
        other
            .fails(&["logout", &registry.host])
            .contains("no credentials")
    );
}

/// Our tree equals umoci's and GNU tar's, whoever pushed the image and whoever pulled it.
fn trees_equal_umocis_and_tars() {
    let ground = Bed::new();
    let registry = DockerRegistry::start(&ground, Admits::Account);
    let samples = sample_layers();
    assert!(samples.len() >= 10);
    let names = (0..samples.len()).map(|number| format!("sample{number}"));
    let samples = names.zip(samples).collect::<Vec<_>>();
    // Most of the time goes into waiting for the disk.
    std::thread::scope(|scope| {
        for some in samples.chunks(3) {
            let registry = &registry;
            scope.spawn(move || {
                for (name, (content, layers)) in some {
                    println!("{name}: {content}");
                    compare(registry, name, layers);
                }
            });
        }
    });
}

/// The same with a whole distribution, of which `IMAGE_ROOTFS` is a directory, made by debootstrap for example.
fn a_distribution_equals_umocis_and_tars() {
    let rootfs = std::env::var("IMAGE_ROOTFS").unwrap();
    let ground = Bed::new();
    let registry = DockerRegistry::start(&ground, Admits::Account);
    let archive = archive_of(Path::new(&rootfs), &["."], &[]);
    compare(&registry, "distribution", &[archive]);
}

fn compare(registry: &DockerRegistry, name: &str, layers: &[Vec<u8>]) {
    let bed = Bed::new();
    let at = |name: &str| bed.path(name).to_str().unwrap().to_owned();
    Image::new(layers).write_layout(&bed.path("layout"));
    registry.trust(&bed);
    registry.login(&bed);
    bed.ok(&["import", &at("layout"), "t.io/x:1"]);
    bed.ok(&["unpack", "t.io/x:1", &at("imported")]);
    let ours = listing(&bed.path("imported"));
    assert!(ours.len() > 1, "{name}");
    let pushed = |by: &str| format!("{}/{name}/by-{by}:1", registry.host);
    bed.ok(&["push", "t.io/x:1", &pushed("us")]);
    let layout = format!("oci:{}:image", at("layout"));
    skopeo_copy(&layout, &format!("docker://{}", pushed("skopeo")));
    for by in ["us", "skopeo"] {
        let other = Bed::new();
        registry.trust(&other);
        registry.login(&other);
        other.ok(&["pull", "-q", &pushed(by)]);
        other.ok(&["unpack", &pushed(by), other.path("r").to_str().unwrap()]);
        assert_equal(
            &format!("{name}: pushed by {by}"),
            &ours,
            &listing(&other.path("r")),
        );
        let copy = at(&format!("copy-{by}"));
        skopeo_copy(
            &format!("docker://{}", pushed(by)),
            &format!("oci:{copy}:image"),
        );
        let (image, tree) = (format!("{copy}:image"), at(&format!("umoci-{by}")));
        run("umoci", &["raw", "unpack", "--image", &image, &tree]);
        assert_equal(
            &format!("{name}: umoci, pushed by {by}"),
            &ours,
            &listing(Path::new(&tree)),
        );
    }
    // GNU tar knows nothing of whiteouts.
    if let [only] = layers {
        let (archive, tree) = (at("a.tar"), at("tar"));
        fs::write(&archive, only).unwrap();
        fs::create_dir(&tree).unwrap();
        let flags = [
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "--same-owner",
        ];
        run(
            "tar",
            &[&["-xpf", &archive, "-C", &tree], &flags[..]].concat(),
        );
        assert_equal(&format!("{name}: tar"), &ours, &listing(Path::new(&tree)));
    }
}

fn skopeo_copy(from: &str, to: &str) {
    let access = [
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--src-creds=user:secret",
        "--dest-creds=user:secret",
    ];
    run(
        "skopeo",
        &[&["copy", "-q"], &access[..], &[from, to]].concat(),
    );
}

/// What tar makes of some paths below a directory, and of the directories above them.
fn archive_of(root: &Path, paths: &[&str], parents: &[&str]) -> Vec<u8> {
    let tar = |paths: &[&str], more: &[&str]| {
        let flags = [
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "--one-file-system",
            "--format=pax",
            "--pax-option=delete=atime,delete=ctime",
            "--blocking-factor=1",
        ];
        let output = Command::new("tar")
            .arg("-C")
            .arg(root)
            .args(flags)
            .args(more)
            .args(["-cf", "-"])
            .args(paths)
            .output();
        output.unwrap().stdout
    };
    let mut all = Vec::new();
    if !parents.is_empty() {
        all = tar(parents, &["--no-recursion"]);
        all.truncate(all.len() - 1024);
    }
    all.extend(tar(paths, &[]));
    all
}

/// The directories above some paths, each once.
fn parents<'a>(paths: &[&'a str]) -> Vec<&'a str> {
    let mut all = paths
        .iter()
        .flat_map(|path| path.match_indices('/').map(|(at, _)| &path[..at]))
        .collect::<Vec<_>>();
    all.sort_unstable();
    all.dedup();
    all
}

fn assert_equal(what: &str, ours: &[String], theirs: &[String]) {
    let only = |a: &[String], b: &[String]| {
        let b = b.iter().collect::<std::collections::BTreeSet<_>>();
        a.iter()
            .filter(|line| !b.contains(line))
            .take(5)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (only(ours, theirs), ours.len()),
        (only(theirs, ours), theirs.len()),
        "{what}"
    );
}

/// Images with `./` in each layer, so that the root's time is defined for all three.
fn sample_layers() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let root = || Tar::new().dir("./", 0o755);
    let of_tree = |paths: &[&str]| {
        let above = [&["."], &parents(paths)[..]].concat();
        vec![archive_of(Path::new("/"), paths, &above)]
    };
    let kinds = root()
        .dir("d", 0o2775)
        .file("d/f", b"x")
        .link("d/f", "d/g")
        .symlink("f", "d/s")
        .entry(
            &Header {
                device: (1, 5),
                ..Header::new(b'3', "zero")
            },
            b"",
        )
        .entry(&Header::new(b'6', "fifo"), b"")
        .entry(
            &Header {
                mode: 0o6755,
                size: 2,
                owner: (1000, 1001),
                ..Header::new(b'0', "suid")
            },
            b"ab",
        )
        .pax(&[
            ("SCHILY.xattr.user.a", b"1"),
            (
                "SCHILY.xattr.security.capability",
                b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ),
        ])
        .file("cap", b"c")
        .pax(&[
            ("uid", b"70000"),
            ("gid", b"80000"),
            ("mtime", b"1500000000.25"),
        ])
        .file("ids", b"")
        .end();
    let gnu = root()
        .entry(
            &Header {
                size: 151,
                ..Header::new(b'L', "././@LongLink")
            },
            format!("{}\0", "n".repeat(150)).as_bytes(),
        )
        .file("short", b"gnu")
        .end();
    let many = {
        let mut tar = root();
        for n in 0..400 {
            tar = tar.file(
                &format!("file{n}"),
                &n.to_string().repeat(n * 5).into_bytes(),
            );
        }
        tar.end()
    };
    let layered = || {
        vec![
            root()
                .dir("a", 0o755)
                .file("a/1", b"1")
                .file("a/2", b"2")
                .dir("b", 0o700)
                .file("b/x", b"x")
                .symlink("a", "l")
                .end(),
            root()
                .dir("a", 0o711)
                .file("a/.wh.1", b"")
                .file("a/3", b"3")
                .dir("b", 0o755)
                .file("b/.wh..wh..opq", b"")
                .file("b/y", b"y")
                .end(),
            root()
                .file(".wh.l", b"")
                .dir("l", 0o755)
                .file("l/now-a-directory", b"")
                .dir("a", 0o711)
                .file("a/2", b"two")
                .end(),
        ]
    };
    let program = program_in_path("busybox").unwrap_or_else(|| probe_program().to_owned());
    let content = fs::read(program).unwrap();
    let header = Header {
        mode: 0o755,
        size: content.len() as u64,
        ..Header::new(b'0', "bin/busybox")
    };
    let busybox = root()
        .dir("bin", 0o755)
        .entry(&header, &content)
        .symlink("busybox", "bin/sh")
        .link("bin/busybox", "bin/ls")
        .end();
    let mut forty = vec![root().dir("d", 0o755).end()];
    forty.extend((0..40).map(|n| {
        root()
            .dir("d", 0o755)
            .file(&format!("d/{n}"), n.to_string().as_bytes())
            .end()
    }));
    vec![
        ("busybox", vec![busybox]),
        (
            "every kind in many layers",
            [vec![kinds.clone()], forty.clone(), layered()].concat(),
        ),
        ("kinds", vec![kinds]),
        ("long GNU name", vec![gnu]),
        ("many files", vec![many]),
        ("layers", layered()),
        ("forty layers", forty),
        ("etc", of_tree(&["etc"])),
        ("tools", of_tree(&["usr/sbin"])),
        ("perl", of_tree(&["usr/share/perl"])),
        ("time zones", of_tree(&["usr/share/zoneinfo"])),
        ("terminals", of_tree(&["usr/lib/terminfo"])),
        (
            "etc and tools",
            [of_tree(&["etc"]), of_tree(&["usr/sbin"])].concat(),
        ),
        (
            "empty files and links",
            vec![
                root()
                    .file("e", b"")
                    .link("e", "e1")
                    .link("e1", "e2")
                    .symlink("nowhere", "dead")
                    .end(),
            ],
        ),
    ]
}

/// Debian's programs, and what their set-up needs.
const PEERS: &[Need] = &[
    Need::Root,
    Need::Program("docker-registry"),
    Need::Program("htpasswd"),
    Need::Program("openssl"),
    Need::Program("skopeo"),
    Need::Program("umoci"),
    Need::Program("tar"),
];
const PEERS_AND_A_DISTRIBUTION: &[Need] = &[
    PEERS[0],
    PEERS[1],
    PEERS[2],
    PEERS[3],
    PEERS[4],
    PEERS[5],
    PEERS[6],
    Need::Variable("IMAGE_ROOTFS"),
];

suite! {
    PEERS => [debians_registry_with_tls_and_accounts, certificates_of_clients, trees_equal_umocis_and_tars],
    PEERS_AND_A_DISTRIBUTION => [a_distribution_equals_umocis_and_tars],
}
