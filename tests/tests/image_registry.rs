//! Registries: Debian's, over TLS with accounts; and one that lies, stalls and refuses in every way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

use ocirun_tests::image_support::{
    Answer, Bed, FakeRegistry, Image, Request, Tar, digest, gzip, small,
};
use ocirun_tests::{Need, suite};
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

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

/// Sends the client to the token service of `host`.
fn wants_token(host: &str) -> Answer {
    let realm =
        format!("Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:x:pull\"");
    let header = ("www-authenticate".to_owned(), realm);
    Answer::Whole(401, vec![header], Vec::new())
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
        Some(wants_token(&host))
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

/// A token that stands for an account is sent in the body of a form, and never to the registry itself.
fn identity_tokens_are_exchanged() {
    let image = small();
    let registry = FakeRegistry::serving(&image, |request| {
        let host = request.headers["host"].clone();
        if request.path.starts_with("/token") {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            let given = form.contains("grant_type=refresh_token")
                && form.contains("refresh_token=secret%2Bid");
            let is_right = request.method == "POST" && given && form.contains("scope=repository");
            let answer = br#"{"access_token":"T","expires_in":300}"#.to_vec();
            return Some(Answer::Whole(
                if is_right { 200 } else { 401 },
                Vec::new(),
                answer,
            ));
        }
        let authorization = request
            .headers
            .get("authorization")
            .map_or("", String::as_str);
        assert!(!authorization.contains("secret"));
        if authorization == "Bearer T" {
            return None;
        }
        Some(wants_token(&host))
    });
    let bed = Bed::new();
    let auth = json!({"auths": {&registry.host: {"identitytoken": "secret+id"}}});
    fs::write(bed.path("auth.json"), auth.to_string()).unwrap();
    bed.ok(&["pull", "-q", &format!("{}/x:1", registry.host)]);
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

suite! {
    &[Need::Root] => [
        wrong_bytes_are_refused, slow_and_failing_registries_end_in_time, what_passes_is_waited_for, credentials_go_nowhere_else,
        tokens_are_fetched_and_sent, identity_tokens_are_exchanged, mirrors_take_over, one_download_for_all, collections_do_not_race_pulls,
        documents_that_lie_are_refused,
    ],
}
