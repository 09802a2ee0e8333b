//! Beside others: Debian's registry over TLS with accounts, skopeo, umoci and GNU tar.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

use ocirun_tests::image_support::{Bed, Header, Image, Tar, listing, small};
use ocirun_tests::{Need, suite};
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
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

/// docker-registry with TLS and one account, gone when dropped.
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
    fn start(bed: &Bed) -> Self {
        let at = |name: &str| bed.path(name).to_str().unwrap().to_owned();
        let (key, certificate) = (at("key.pem"), at("cert.pem"));
        run(
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=registry",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
                "-keyout",
                &key,
                "-out",
                &certificate,
            ],
        );
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
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: {host}\n  tls: {{certificate: {certificate}, key: {key}}}\n\
             auth:\n  htpasswd: {{realm: basic, path: {}}}\n",
            at("data"),
            at("htpasswd")
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

fn debians_registry_with_tls_and_accounts() {
    let bed = Bed::new();
    let registry = DockerRegistry::start(&bed);
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
    let copy = |from: &str, to: &str| {
        let tls = [
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            "--src-creds=user:secret",
            "--dest-creds=user:secret",
        ];
        run("skopeo", &[&["copy", "-q"], &tls[..], &[from, to]].concat());
    };
    let oci = format!("oci:{}:x", bed.path("by-skopeo").display());
    copy(&format!("docker://{name}"), &oci);
    copy(&oci, &format!("docker://{}/skopeo/x:1", registry.host));
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

/// Our tree equals umoci's and GNU tar's.
fn trees_equal_umocis_and_tars() {
    for (name, layers) in sample_layers() {
        let bed = Bed::new();
        let layout = bed.path("layout");
        Image::new(&layers).write_layout(&layout);
        bed.ok(&["import", layout.to_str().unwrap(), "t.io/x:1"]);
        bed.ok(&["unpack", "t.io/x:1", bed.path("ours").to_str().unwrap()]);
        let image = format!("{}:image", layout.display());
        run(
            "umoci",
            &[
                "raw",
                "unpack",
                "--image",
                &image,
                bed.path("umoci").to_str().unwrap(),
            ],
        );
        let ours = listing(&bed.path("ours"));
        assert!(ours.len() > 1, "{name}");
        assert_equal(
            &format!("{name}: umoci"),
            &ours,
            &listing(&bed.path("umoci")),
        );
        if let [only] = &layers[..] {
            let (archive, tree) = (bed.path("a.tar"), bed.path("tar"));
            fs::write(&archive, only).unwrap();
            fs::create_dir(&tree).unwrap();
            run(
                "tar",
                &[
                    "-xpf",
                    archive.to_str().unwrap(),
                    "-C",
                    tree.to_str().unwrap(),
                    "--numeric-owner",
                    "--xattrs",
                    "--xattrs-include=*",
                    "--same-owner",
                ],
            );
            assert_equal(&format!("{name}: tar"), &ours, &listing(&tree));
        }
    }
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
        let output = Command::new("tar")
            .args([
                "-C",
                "/",
                "--numeric-owner",
                "--xattrs",
                "--format=pax",
                "--pax-option=delete=atime,delete=ctime",
                "--no-recursion",
                "-cf",
                "-",
                ".",
            ])
            .args(parents(paths))
            .output()
            .unwrap();
        let mut all = output.stdout;
        all.truncate(
            all.len() - 10240
                + all
                    .iter()
                    .rev()
                    .take(10240)
                    .position(|b| *b != 0)
                    .map_or(0, |zeros| (10240 - zeros).next_multiple_of(512)),
        );
        let output = Command::new("tar")
            .args([
                "-C",
                "/",
                "--numeric-owner",
                "--xattrs",
                "--format=pax",
                "--pax-option=delete=atime,delete=ctime",
                "-cf",
                "-",
            ])
            .args(paths)
            .output()
            .unwrap();
        all.extend(output.stdout);
        all
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
    let mut hundred = vec![root().dir("d", 0o755).end()];
    hundred.extend((0..100).map(|n| {
        root()
            .dir("d", 0o755)
            .file(&format!("d/{n}"), n.to_string().as_bytes())
            .end()
    }));
    vec![
        ("kinds", vec![kinds]),
        ("long GNU name", vec![gnu]),
        ("many files", vec![many]),
        ("layers", layered()),
        ("a hundred layers", hundred),
        ("etc", vec![of_tree(&["etc"])]),
        ("tools", vec![of_tree(&["usr/sbin"])]),
        ("python", vec![of_tree(&["usr/lib/python3"])]),
        ("dpkg", vec![of_tree(&["var/lib/dpkg"])]),
        ("perl", vec![of_tree(&["usr/share/perl"])]),
        (
            "etc and tools",
            vec![of_tree(&["etc"]), of_tree(&["usr/sbin"])],
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

suite! {
    &[Need::Root, Need::Program("docker-registry"), Need::Program("htpasswd"), Need::Program("openssl"), Need::Program("skopeo")] =>
        [debians_registry_with_tls_and_accounts],
    &[Need::Root, Need::Program("umoci"), Need::Program("tar")] => [trees_equal_umocis_and_tars],
}
