//! Registries: Debian's, over TLS with accounts; and one that lies, stalls and refuses in every way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

use ocirun_tests::image_support::{
    Answer, Bed, FakeRegistry, Header, Image, Request, Tar, digest, gzip, listing,
};
use ocirun_tests::{Need, suite};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

fn small() -> Image {
    Image::new(&[
        Tar::new()
            .dir("bin", 0o755)
            .file("bin/sh", &vec![1; 300_000])
            .end(),
        Tar::new()
            .dir("etc", 0o755)
            .file("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
            .end(),
    ])
}

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

/// Pulls from a registry that misbehaves; the error has to come, to be short, and to leave nothing behind.
fn pull_fails(
    change: impl Fn(&Image, &Request) -> Option<Answer> + Send + Sync + 'static,
    reasons: &[&str],
) -> Duration {
    let image = small();
    let served = image.clone();
    let registry = FakeRegistry::serving(&image, move |request| change(&served, request));
    let bed = Bed::new();
    let begin = Instant::now();
    let error = bed.fails(&[
        "--stall-timeout",
        "1",
        "pull",
        "-q",
        &format!("{}/x:1", registry.host),
    ]);
    assert!(
        reasons.iter().any(|reason| error.contains(reason)),
        "expected one of {reasons:?} in {error}"
    );
    assert!(error.len() < 4000, "{error}");
    bed.assert_sound();
    assert_eq!(bed.ok(&["--json", "ls"]).trim(), "[]");
    begin.elapsed()
}

fn is_layer(image: &Image, request: &Request) -> bool {
    request.path.contains(&image.layers[0])
}

fn wrong_bytes_are_refused() {
    let layer = |answer: fn(&[u8]) -> Vec<u8>| {
        move |image: &Image, request: &Request| {
            is_layer(image, request)
                .then(|| Answer::Whole(200, Vec::new(), answer(&image.blobs[&image.layers[0]])))
        }
    };
    pull_fails(
        layer(|blob| {
            let mut b = blob.to_vec();
            let last = b.len() - 6;
            b[last] ^= 1;
            b
        }),
        &["digest", "inflate"],
    );
    pull_fails(layer(|blob| [blob, b"x"].concat()), &["more than"]);
    pull_fails(
        layer(|blob| blob[..blob.len() - 1].to_vec()),
        &["ended at byte"],
    );
    pull_fails(layer(|_| Vec::new()), &["ended at byte"]);
    pull_fails(
        |image, request| is_layer(image, request).then_some(Answer::Endless),
        &["more than"],
    );
    pull_fails(
        |_, request| {
            request
                .path
                .contains("/manifests/")
                .then(|| Answer::Whole(200, Vec::new(), vec![b'['; 5 << 20]))
        },
        &["larger than"],
    );
    pull_fails(
        |_, request| {
            request
                .path
                .contains("/manifests/")
                .then_some(Answer::Endless)
        },
        &["larger than"],
    );
    pull_fails(
        |_, request| {
            request
                .path
                .contains("/manifests/")
                .then(|| Answer::Whole(200, Vec::new(), [b'['; 3000].to_vec()))
        },
        &["deeper"],
    );
    let lying = |image: &Image, request: &Request| {
        request.path.contains("/manifests/").then(|| {
            let kind = (
                "content-type".to_owned(),
                "application/vnd.oci.image.index.v1+json".to_owned(),
            );
            Answer::Whole(200, vec![kind], image.blobs[&image.manifest].clone())
        })
    };
    pull_fails(lying, &["promised"]);
    let claimed = |image: &Image, request: &Request| {
        request.path.contains("/manifests/").then(|| {
            let wrong = ("docker-content-digest".to_owned(), digest(b"other"));
            Answer::Whole(200, vec![wrong], image.blobs[&image.manifest].clone())
        })
    };
    pull_fails(claimed, &["digest is"]);
    // A range that was not asked for, when a broken body is taken up.
    let count = AtomicU32::new(0);
    pull_fails(
        move |image, request| {
            is_layer(image, request).then(|| {
                let blob = image.blobs[&image.layers[0]].clone();
                match count.fetch_add(1, Ordering::SeqCst) {
                    0 => {
                        let half = blob.len() / 2;
                        Answer::Cut(blob, half)
                    }
                    _ => Answer::Whole(
                        206,
                        vec![("content-range".to_owned(), "bytes 0-1/2".to_owned())],
                        blob,
                    ),
                }
            })
        },
        &["asked from byte"],
    );
}

fn slow_and_failing_registries_end_in_time() {
    let took = pull_fails(
        |image, request| {
            is_layer(image, request).then(|| Answer::Slow(image.blobs[&image.layers[0]].clone()))
        },
        &["slower than"],
    );
    assert!(took < Duration::from_secs(30), "{took:?}");
    let took = pull_fails(
        |_, request| {
            request
                .path
                .contains("/manifests/")
                .then(|| Answer::Whole(503, Vec::new(), Vec::new()))
        },
        &["503"],
    );
    assert!(took < Duration::from_secs(30), "{took:?}");
    let asks_for_long = |_: &Image, request: &Request| {
        let header = ("retry-after".to_owned(), "86400".to_owned());
        request
            .path
            .contains("/manifests/")
            .then(|| Answer::Whole(429, vec![header], Vec::new()))
    };
    let took = pull_fails(asks_for_long, &["429"]);
    assert!(took < Duration::from_secs(10), "{took:?}");
    let round = |_: &Image, request: &Request| {
        let header = ("location".to_owned(), format!("{}x", request.path));
        request
            .path
            .contains("/blobs/")
            .then(|| Answer::Whole(307, vec![header], Vec::new()))
    };
    pull_fails(round, &["redirects"]);
    pull_fails(
        |_, request| {
            request
                .path
                .contains("/manifests/")
                .then(|| Answer::Whole(404, Vec::new(), b"<html>".to_vec()))
        },
        &["404"],
    );
    let said = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m such thing"}]}"#;
    pull_fails(
        |_, request| {
            request
                .path
                .contains("/manifests/")
                .then(|| Answer::Whole(403, Vec::new(), said.to_vec()))
        },
        &["DENIED: no [31m such thing"],
    );
}

fn what_passes_is_waited_for() {
    let image = small();
    let count = AtomicU32::new(0);
    let served = image.clone();
    let registry = FakeRegistry::serving(&image, move |request| {
        let header = ("retry-after".to_owned(), "1".to_owned());
        match (is_layer(&served, request), count.load(Ordering::SeqCst)) {
            (true, 0) => {
                count.store(1, Ordering::SeqCst);
                Some(Answer::Whole(429, vec![header], Vec::new()))
            }
            (true, 1) => {
                count.store(2, Ordering::SeqCst);
                Some(Answer::Whole(500, Vec::new(), Vec::new()))
            }
            (true, 2) => {
                count.store(3, Ordering::SeqCst);
                let blob = served.blobs[&served.layers[0]].clone();
                let half = blob.len() / 2;
                Some(Answer::Cut(blob, half))
            }
            _ => None,
        }
    });
    let bed = Bed::new();
    bed.ok(&["pull", "-q", &format!("{}/x:1", registry.host)]);
    let layer = registry
        .requests()
        .into_iter()
        .filter(|r| is_layer(&image, r))
        .collect::<Vec<_>>();
    assert_eq!(layer.len(), 4);
    assert!(layer[3].headers.contains_key("range"), "{layer:?}");
    bed.assert_sound();
}

fn credentials_go_nowhere_else() {
    let image = small();
    let elsewhere = FakeRegistry::serving(&image, |_| None);
    let target = elsewhere.host.clone();
    let layer = image.layers[0].clone();
    let registry = FakeRegistry::serving(&image, move |request| {
        if !request.headers.contains_key("authorization") && request.path != "/v2/" {
            return Some(Answer::Whole(
                401,
                vec![(
                    "www-authenticate".to_owned(),
                    "Basic realm=\"x\"".to_owned(),
                )],
                Vec::new(),
            ));
        }
        request.path.contains(&layer).then(|| {
            Answer::Whole(
                307,
                vec![(
                    "location".to_owned(),
                    format!("http://{target}/v2/x/blobs/{layer}"),
                )],
                Vec::new(),
            )
        })
    });
    let bed = Bed::new();
    let auth = json!({"auths": {&registry.host: {"username": "u", "password": "p"}}});
    fs::write(bed.path("auth.json"), auth.to_string()).unwrap();
    bed.ok(&["pull", "-q", &format!("{}/x:1", registry.host)]);
    let moved = elsewhere.requests();
    assert!(
        !moved.is_empty()
            && moved
                .iter()
                .all(|r| !r.headers.contains_key("authorization")),
        "{moved:?}"
    );
    // Neither to a token server that is not reached securely, nor along to another scheme.
    for location in [
        "file:///etc/passwd",
        "http://169.254.169.254/x",
        "ftp://127.0.0.1/x",
    ] {
        let location = location.to_owned();
        pull_fails(
            move |image, request| {
                is_layer(image, request).then(|| {
                    Answer::Whole(
                        307,
                        vec![("location".to_owned(), location.clone())],
                        Vec::new(),
                    )
                })
            },
            &["redirect from", "no address"],
        );
    }
    let realm = (
        "www-authenticate".to_owned(),
        "Bearer realm=\"http://192.0.2.1/token\"".to_owned(),
    );
    pull_fails(
        move |_, request| {
            request
                .path
                .contains("manifests")
                .then(|| Answer::Whole(401, vec![realm.clone()], Vec::new()))
        },
        &["not a secure address"],
    );
}

fn tokens_are_fetched_and_sent() {
    let image = small();
    let registry = FakeRegistry::serving(&image, |request| {
        let host = request.headers["host"].clone();
        if request.path.starts_with("/token") {
            let given =
                request.headers.get("authorization").map(String::as_str) == Some("Basic dTpw");
            assert!(
                request.path.contains("scope=repository:x:pull")
                    && request.path.contains("service=s"),
                "{}",
                request.path
            );
            return Some(Answer::Whole(
                if given { 200 } else { 401 },
                Vec::new(),
                br#"{"token":"T","expires_in":300}"#.to_vec(),
            ));
        }
        if request.path == "/v2/"
            || request.headers.get("authorization").map(String::as_str) == Some("Bearer T")
        {
            return None;
        }
        let realm = format!(
            "Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:x:pull\""
        );
        Some(Answer::Whole(
            401,
            vec![("www-authenticate".to_owned(), realm)],
            Vec::new(),
        ))
    });
    let bed = Bed::new();
    // By a helper, which is asked without a shell.
    let bin = bed.path("bin");
    fs::create_dir(&bin).unwrap();
    let helper = bin.join("docker-credential-test");
    fs::write(
        &helper,
        "#!/bin/sh\nread host\nprintf '{\"Username\":\"u\",\"Secret\":\"p\"}'\n",
    )
    .unwrap();
    fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(
        bed.path("auth.json"),
        json!({"credHelpers": {&registry.host: "test"}}).to_string(),
    )
    .unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let name = format!("{}/x:1", registry.host);
    let output = bed
        .command(&["pull", "-q", &name])
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        registry
            .requests()
            .iter()
            .filter(|r| r.path.starts_with("/token"))
            .count()
            <= 4
    );
}

/// The next mirror is tried when one is dead, refuses, or sends something else.
fn mirrors_take_over() {
    let image = small();
    let good = FakeRegistry::serving(&image, |_| None);
    let served = image.clone();
    let lying = FakeRegistry::serving(&image, move |request| {
        is_layer(&served, request).then(|| {
            let mut blob = served.blobs[&served.layers[0]].clone();
            blob[100] ^= 1;
            Answer::Whole(200, Vec::new(), blob)
        })
    });
    let refusing = FakeRegistry::start(|_| Answer::Whole(403, Vec::new(), Vec::new()));
    for first in ["127.0.0.1:1", &refusing.host, &lying.host] {
        let bed = Bed::new();
        let dir = bed.path("certs.d/q.example");
        fs::create_dir_all(&dir).unwrap();
        let text = format!(
            "server = \"http://127.0.0.1:1\"\n[host.\"http://{first}\"]\n  capabilities = [\"pull\", \"resolve\"]\n[host.\"http://{}\"]\n",
            good.host
        );
        fs::write(dir.join("hosts.toml"), text).unwrap();
        bed.ok(&["pull", "-q", "q.example/x:1"]);
        assert!(
            good.requests()
                .iter()
                .any(|r| r.path.contains("ns=q.example"))
        );
        bed.assert_sound();
    }
    let bed = Bed::new();
    let text = format!(
        "[[registry]]\nprefix = \"q.example\"\nlocation = \"127.0.0.1:1\"\n[[registry.mirror]]\nlocation = \"{}/team\"\ninsecure = true\n",
        good.host
    );
    fs::write(bed.path("registries.conf"), text).unwrap();
    bed.ok(&["pull", "-q", "q.example/x:1"]);
    assert!(
        good.requests()
            .iter()
            .any(|r| r.path.starts_with("/v2/team/x/"))
    );
}

/// However many pull at once, in however many processes, each layer comes once.
fn one_download_for_all() {
    let image = small();
    let registry = FakeRegistry::serving(&image, |request| {
        if request.path.contains("/blobs/") {
            std::thread::sleep(Duration::from_millis(150));
        }
        None
    });
    let bed = Bed::new();
    let name = format!("{}/x:1", registry.host);
    let children = (0..8)
        .map(|_| {
            bed.command(&["pull", "-q", &name])
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect::<Vec<_>>();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    for layer in &image.layers {
        assert_eq!(
            registry
                .requests()
                .iter()
                .filter(|r| r.path.contains(layer))
                .count(),
            1
        );
    }
    bed.assert_sound();
}

/// Collections that run all the time never take anything from pulls.
fn collections_do_not_race_pulls() {
    let image = small();
    let registry = FakeRegistry::serving(&image, |_| None);
    let bed = Bed::new();
    for round in 0..6 {
        let name = format!("{}/x:{round}", registry.host);
        let mut pull = bed
            .command(&["pull", "-q", &name])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while pull.try_wait().unwrap().is_none() {
            bed.ok(&["gc", "--all"]);
        }
        assert!(pull.wait().unwrap().success());
        bed.ok(&["fsck"]);
        bed.ok(&["rm", &name]);
    }
    bed.assert_sound();
}

fn documents_that_lie_are_refused() {
    let tar = Tar::new().file("a", b"1").end();
    let bed = Bed::new();
    let unpack = |image: &Image| bed.unpack(image).unwrap_err();
    assert!(unpack(&Image::of(&[(gzip(&tar), digest(b"x"))], &json!({}))).contains("DiffID"));
    let config = |text: Value| {
        Image::with_config(
            &[(gzip(&tar), String::new())],
            text.to_string().into_bytes(),
        )
    };
    let rootfs = |kind: &str, ids: Value| json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": kind, "diff_ids": ids}});
    assert!(unpack(&config(rootfs("layers", json!([])))).contains("names 0 layers"));
    assert!(unpack(&config(rootfs("other", json!([digest(&tar)])))).contains("not \"layers\""));
    assert!(unpack(&config(rootfs("layers", json!(["sha256:../../etc"])))).contains("digest"));
    // An import takes no name that another image has.
    let (a, b) = (Image::new(&[tar]), small());
    bed.unpack(&a).unwrap();
    let error = bed.unpack(&b).unwrap_err();
    assert!(error.contains("--replace"), "{error}");
}

/// Users, overflowing ids, and account files that are traps.
fn bundles_of_hostile_images() {
    let with = |user: &str, tar: Vec<u8>| {
        Image::of(
            &[(gzip(&tar), digest(&tar))],
            &json!({"User": user, "Cmd": ["/x"]}),
        )
    };
    let passwd = || {
        Tar::new()
            .dir("etc", 0o755)
            .file("etc/passwd", b"app:x:12:34::/:\n")
            .file("etc/group", b"app:x:34:\nextra:x:56:app\n")
    };
    let spec = |image: &Image| -> Result<Value, String> {
        let bed = Bed::new();
        let layout = bed.path("layout");
        image.write_layout(&layout);
        bed.ok(&["import", layout.to_str().unwrap(), "t.io/x:1"]);
        let output = bed.run(&["bundle", "t.io/x:1", bed.path("b").to_str().unwrap()]);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(serde_json::from_slice(&fs::read(bed.path("b/config.json")).unwrap()).unwrap())
    };
    let user = |image: &Image| spec(image).map(|spec| spec["process"]["user"].clone());
    assert_eq!(
        user(&with("app", passwd().end())).unwrap(),
        json!({"uid": 12, "gid": 34, "additionalGids": [56]})
    );
    assert_eq!(
        user(&with("12:extra", passwd().end())).unwrap(),
        json!({"uid": 12, "gid": 56})
    );
    assert_eq!(
        user(&with("77:88", Tar::new().end())).unwrap(),
        json!({"uid": 77, "gid": 88})
    );
    assert!(
        user(&with("4294967296", Tar::new().end()))
            .unwrap_err()
            .contains("too large")
    );
    assert!(
        user(&with("nobody", passwd().end()))
            .unwrap_err()
            .contains("no user")
    );
    let fifo = Tar::new()
        .dir("etc", 0o755)
        .entry(&Header::new(b'6', "etc/passwd"), b"")
        .end();
    assert!(
        user(&with("app", fifo))
            .unwrap_err()
            .contains("not a regular file")
    );
    let huge = Tar::new()
        .dir("etc", 0o755)
        .file("etc/passwd", &vec![b'x'; 2 << 20])
        .end();
    assert!(
        user(&with("app", huge))
            .unwrap_err()
            .contains("larger than")
    );
    // A link to the host's file leads nowhere.
    let link = Tar::new()
        .dir("etc", 0o755)
        .symlink("/../../../../etc/passwd", "etc/passwd")
        .end();
    assert!(user(&with("root", link)).unwrap_err().contains("no user"));
}

/// The image that the machine itself can offer: a static busybox.
fn busybox() -> Option<Image> {
    let program = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find_map(|path| fs::read(path).ok())?;
    let tar = Tar::new()
        .dir("bin", 0o755)
        .entry(
            &Header {
                mode: 0o755,
                size: program.len() as u64,
                ..Header::new(b'0', "bin/busybox")
            },
            &program,
        )
        .symlink("busybox", "bin/sh")
        .symlink("busybox", "bin/echo")
        .dir("etc", 0o755)
        .file("etc/motd", b"hello\n")
        .dir("proc", 0o755)
        .dir("sys", 0o755)
        .dir("dev", 0o755)
        .end();
    Some(Image::of(
        &[(gzip(&tar), digest(&tar))],
        &json!({"Entrypoint": ["/bin/echo"], "Cmd": ["from", "image"], "Env": ["A=b"], "WorkingDir": "/etc"}),
    ))
}

fn a_bundle_runs() {
    let Some(image) = busybox() else { return };
    let bed = Bed::new();
    let layout = bed.path("layout");
    image.write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/busybox:1"]);
    let bundle = bed.path("bundle");
    bed.ok(&["bundle", "t.io/busybox:1", bundle.to_str().unwrap()]);
    let id = format!("image-{}", std::process::id());
    // Its own cgroup is the runtime's business, not this test's.
    let runtime = ocirun_tests::runtime();
    let output = Command::new(&runtime.program)
        .args(["--root", bed.path("run").to_str().unwrap(), "run", "-b"])
        .arg(&bundle)
        .arg(&id)
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "from image\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn mounts_show_the_union() {
    let bed = Bed::new();
    let mut layers = vec![
        Tar::new()
            .dir("d", 0o755)
            .file("d/0", b"0")
            .file("gone", b"")
            .end(),
    ];
    layers.extend((1..40).map(|n| {
        Tar::new()
            .dir("d", 0o755)
            .file(&format!("d/{n}"), b"x")
            .end()
    }));
    layers.push(Tar::new().file(".wh.gone", b"").end());
    let layout = bed.path("layout");
    Image::new(&layers).write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/many:1"]);
    let target = bed.path("mnt");
    fs::create_dir(&target).unwrap();
    let at = target.to_str().unwrap();
    bed.ok(&["mount", "t.io/many:1", at]);
    let count = fs::read_dir(target.join("d")).unwrap().count();
    let shown = (
        count,
        target.join("gone").exists(),
        fs::write(target.join("new"), "").is_err(),
    );
    // What is mounted is not collected, though its name is gone.
    bed.ok(&["rm", "t.io/many:1"]);
    let still = fs::read(target.join("d/0"));
    bed.ok(&["umount", at]);
    assert_eq!((shown, still.unwrap()), ((40, false, true), b"0".to_vec()));
    bed.assert_sound();
    assert!(bed.fails(&["umount", at]).contains("nothing is mounted"));
}

fn commits_and_exports_go_round() {
    let bed = Bed::new();
    let layout = bed.path("layout");
    small().write_layout(&layout);
    bed.ok(&["import", layout.to_str().unwrap(), "t.io/a:1"]);
    let dir = bed.path("dir");
    bed.ok(&["unpack", "t.io/a:1", dir.to_str().unwrap()]);
    assert_eq!(bed.ok(&["diff", "t.io/a:1", dir.to_str().unwrap()]), "");
    fs::remove_file(dir.join("etc/passwd")).unwrap();
    fs::write(dir.join("etc/new"), "n").unwrap();
    fs::hard_link(dir.join("etc/new"), dir.join("etc/new2")).unwrap();
    std::os::unix::fs::symlink("x".repeat(300), dir.join("long-link")).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap());
    let diff = bed.ok(&["diff", "t.io/a:1", dir.to_str().unwrap()]);
    assert_eq!(
        diff,
        "A /empty\nC /etc\nA /etc/new\nA /etc/new2\nD /etc/passwd\nA /long-link\n"
    );
    bed.ok(&["commit", "t.io/a:1", dir.to_str().unwrap(), "t.io/a:2"]);
    bed.ok(&["unpack", "t.io/a:2", bed.path("again").to_str().unwrap()]);
    fs::remove_file(dir.join("socket")).unwrap();
    let without_root = |path: &Path| {
        listing(path)
            .into_iter()
            .filter(|line| !line.starts_with(' '))
            .collect::<Vec<_>>()
    };
    assert_eq!(without_root(&bed.path("again")), without_root(&dir));
    for format in ["oci-archive", "oci-dir", "docker-archive"] {
        let out = bed.path(format);
        bed.ok(&[
            "export",
            "t.io/a:2",
            out.to_str().unwrap(),
            "--format",
            format,
        ]);
        let other = Bed::new();
        other.ok(&["import", out.to_str().unwrap()]);
        other.ok(&["unpack", "t.io/a:2", other.path("r").to_str().unwrap()]);
        assert_eq!(
            without_root(&other.path("r")),
            without_root(&dir),
            "{format}"
        );
        other.assert_sound();
        assert!(
            bed.fails(&["export", "t.io/a:2", out.to_str().unwrap()])
                .contains("exists")
        );
    }
    bed.assert_sound();
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

/// Man pages and completions know every command.
fn manual_and_completions_are_complete() {
    let bed = Bed::new();
    let man = bed.path("man");
    fs::create_dir(&man).unwrap();
    bed.ok(&["man", man.to_str().unwrap()]);
    let bash = bed.ok(&["completions", "bash"]);
    let help = bed.ok(&["--help"]);
    let commands = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty());
    let names = commands
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect::<Vec<_>>();
    assert!(names.len() >= 20, "{names:?}");
    for name in names {
        assert!(
            man.join(format!("ocirun-image-{name}.1")).exists(),
            "{name}"
        );
        assert!(
            bash.contains(&format!("ocirun__image__subcmd__{name}"))
                || bash.contains(&format!("ocirun__image__{name}")),
            "{name}"
        );
    }
}

suite! {
    &[] => [manual_and_completions_are_complete],
    &[Need::Root] => [
        wrong_bytes_are_refused, slow_and_failing_registries_end_in_time, what_passes_is_waited_for, credentials_go_nowhere_else,
        tokens_are_fetched_and_sent, mirrors_take_over, one_download_for_all, collections_do_not_race_pulls,
        documents_that_lie_are_refused, bundles_of_hostile_images, mounts_show_the_union, commits_and_exports_go_round, a_bundle_runs,
    ],
    &[Need::Root, Need::Program("docker-registry"), Need::Program("htpasswd"), Need::Program("openssl"), Need::Program("skopeo")] =>
        [debians_registry_with_tls_and_accounts],
    &[Need::Root, Need::Program("umoci"), Need::Program("tar")] => [trees_equal_umocis_and_tars],
}
