//! The server's word about itself, and images, by the interface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with the facts"
)]

mod cri;

use cri::{Node, apart, busybox, refused, spec};
use cri_server::api::{
    AuthConfig, CgroupDriver, ImageFilter, ImageFsInfoRequest, ImageStatusRequest,
    ListImagesRequest, PullImageRequest, RemoveImageRequest, RuntimeConfigRequest, StatusRequest,
    StreamImagesRequest, VersionRequest,
};
use ocirun_tests::image_support::{Answer, FakeRegistry, honest};
use ocirun_tests::{Need, eventually, suite};
use serde_json::{Value, json};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio_stream::StreamExt as _;
use tonic::Code;

fn versions_conditions_and_configuration() {
    apart(|| {
        let mut node = Node::new();
        let version = node
            .wait(node.runtime().version(VersionRequest::default()))
            .unwrap()
            .into_inner();
        assert_eq!(
            (&*version.version, &*version.runtime_api_version),
            ("0.1.0", "v1")
        );
        assert_eq!(version.runtime_name, "ocirun");
        let request = StatusRequest { verbose: true };
        let status = node
            .wait(node.runtime().status(request))
            .unwrap()
            .into_inner();
        let conditions = status.status.unwrap().conditions;
        let shown = conditions
            .iter()
            .map(|c| (&*c.r#type, c.status))
            .collect::<Vec<_>>();
        // Where no networks are to be configured, none is missing.
        assert_eq!(shown, [("RuntimeReady", true), ("NetworkReady", true)]);
        let config: Value = serde_json::from_str(&status.info["config"]).unwrap();
        assert!(config["sandboxImage"].as_str().unwrap().contains("pause:"));
        assert_eq!(config["stateDir"], node.path("run").to_str().unwrap());
        let handler = status.runtime_handlers[0].features.unwrap();
        assert!(handler.recursive_read_only_mounts);
        let driver = node.wait(node.runtime().runtime_config(RuntimeConfigRequest {}));
        let driver = driver.unwrap().into_inner().linux.unwrap().cgroup_driver();
        let has_systemd = std::path::Path::new("/run/systemd/system").is_dir();
        assert_eq!(driver == CgroupDriver::Systemd, has_systemd);
        let socket = std::fs::metadata(node.path("run/cri.sock")).unwrap();
        assert!(socket.file_type().is_socket());
        assert_eq!(socket.permissions().mode() & 0o777, 0o600);
        // A second daemon on the same state is refused, and does no harm.
        let second = std::process::Command::new(format!("/proc/{}/exe", node.pid()))
            .arg("--config")
            .arg(node.path("cri.toml"))
            .output()
            .unwrap();
        assert!(!second.status.success());
        let words = String::from_utf8(second.stderr).unwrap();
        assert!(words.contains("another ocirun-cri is running"), "{words}");
        node.wait(node.runtime().version(VersionRequest::default()))
            .unwrap();
        node.kill();
    });
}

fn reload_by_signal() {
    apart(|| {
        let node = Node::new();
        let file = node.path("cri.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let hangup = || {
            let pid = nix::unistd::Pid::from_raw(node.pid().try_into().unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
        };
        std::fs::write(&file, format!("sandbox_image = \"q.io/mine:1\"\n{text}")).unwrap();
        hangup();
        let shown = || {
            let request = StatusRequest { verbose: true };
            let status = node
                .wait(node.runtime().status(request))
                .unwrap()
                .into_inner();
            status.info["config"].clone()
        };
        eventually("the new configuration is in force", || {
            shown().contains("q.io/mine:1")
        });
        std::fs::write(&file, "nonsense = 1").unwrap();
        hangup();
        eventually("the mistake is said", || {
            node.log().contains("the old configuration stays")
        });
        assert!(shown().contains("q.io/mine:1"));
        std::fs::write(&file, text).unwrap();
    });
}

/// What systemd is told, from the first word to the last.
fn words_for_systemd() {
    apart(|| {
        let mut node = Node::new();
        node.kill();
        let socket = node.path("notify");
        let listener = UnixDatagram::bind(&socket).unwrap();
        listener
            .set_read_timeout(Some(ocirun_tests::TIME_LIMIT))
            .unwrap();
        let heard = |wanted: &str| loop {
            let mut buffer = [0; 256];
            let length = listener
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("{wanted}: {error}"));
            let words = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if words.starts_with(wanted) {
                return words;
            }
        };
        let mut server = node
            .command()
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", "100000")
            .spawn()
            .unwrap();
        let pid = nix::unistd::Pid::from_raw(server.id().try_into().unwrap());
        heard("READY=1");
        heard("WATCHDOG=1");
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
        assert!(heard("RELOADING=1").contains("MONOTONIC_USEC="));
        heard("READY=1");
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        heard("STOPPING=1");
        assert!(server.wait().unwrap().success());
        assert!(!node.path("run/cri.sock").exists());
    });
}

fn pulled_found_by_every_name_and_removed() {
    apart(|| {
        let image = busybox(&json!({"Cmd": ["sh"], "User": "app:50000"}));
        let node = Node::with(FakeRegistry::serving(&image, |_| None));
        let id = node.pull("busybox:1").unwrap();
        assert_eq!(node.pull("other/name:2").unwrap(), id);
        let status = |name: &str| {
            let request = ImageStatusRequest {
                image: Some(spec(name)),
                verbose: true,
            };
            node.wait(node.images().image_status(request))
                .unwrap()
                .into_inner()
        };
        let digest = format!("{}@{}", node.image("busybox"), image.manifest);
        let hex = id.strip_prefix("sha256:").unwrap();
        for name in [
            &node.image("busybox:1"),
            &node.image("other/name:2"),
            &digest,
            &id,
            hex,
            &hex[..13],
        ] {
            let shown = status(name);
            let image = shown.image.unwrap_or_else(|| panic!("{name}"));
            assert_eq!(image.id, id, "{name}");
            assert_eq!(
                image.repo_tags,
                [node.image("busybox:1"), node.image("other/name:2")]
            );
            assert!(
                image.repo_digests.contains(&digest),
                "{:?}",
                image.repo_digests
            );
            assert_eq!((image.username.as_str(), image.uid), ("app", None));
            assert!(image.size > 100_000);
            let info: Value = serde_json::from_str(&shown.info["info"]).unwrap();
            assert_eq!(info["imageSpec"]["config"]["Cmd"], json!(["sh"]));
        }
        assert!(status(&node.image("absent:1")).image.is_none());
        let list = |filter: Option<&str>| {
            let filter = filter.map(|name| ImageFilter {
                image: Some(spec(name)),
            });
            let request = ListImagesRequest { filter };
            node.wait(node.images().list_images(request))
                .unwrap()
                .into_inner()
                .images
        };
        assert_eq!(list(None).len(), 1);
        assert_eq!(list(Some(&digest)).len(), 1);
        assert_eq!(list(Some(&node.image("absent:1"))).len(), 0);
        let streamed = node.wait(async {
            let stream = node
                .images()
                .stream_images(StreamImagesRequest::default())
                .await;
            stream.unwrap().into_inner().collect::<Vec<_>>().await
        });
        assert_eq!(streamed.len(), 1);
        assert_eq!(streamed[0].as_ref().unwrap().images, list(None));
        let usage = || {
            let info = node
                .wait(node.images().image_fs_info(ImageFsInfoRequest {}))
                .unwrap()
                .into_inner();
            let shown = info.image_filesystems[0].clone();
            let path = shown.fs_id.unwrap().mountpoint;
            assert!(std::path::Path::new(&path).is_dir(), "{path}");
            assert_eq!(info.container_filesystems.len(), 1);
            shown.used_bytes.unwrap().value
        };
        assert!(usage() > 100_000);
        // One tag takes all tags with it; again and again is no error.
        for _ in 0..2 {
            let request = RemoveImageRequest {
                image: Some(spec(&node.image("busybox:1"))),
            };
            node.wait(node.images().remove_image(request)).unwrap();
            assert_eq!(list(None).len(), 0);
        }
        assert_eq!(usage(), 0);
    });
}

/// One manifest under an index, pulled by the index's digest and without any tag.
fn by_the_digest_of_an_index() {
    apart(|| {
        let image = busybox(&json!({"Cmd": ["sh"]}));
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.manifest,
            "size": image.blobs[&image.manifest].len(), "platform": {"os": "linux", "architecture": "amd64"},
        }]})
        .to_string();
        let digest = ocirun_tests::image_support::digest(index.as_bytes());
        let (data, wanted) = (index.clone(), digest.clone());
        let node = Node::with(FakeRegistry::serving(&image, move |request| {
            let kind = (
                "content-type".to_owned(),
                "application/vnd.oci.image.index.v1+json".to_owned(),
            );
            request
                .path
                .ends_with(&wanted)
                .then(|| Answer::Whole(200, vec![kind], data.clone().into_bytes()))
        }));
        let name = format!("busybox@{digest}");
        let id = node.pull(&name).unwrap();
        for name in [node.image(&name), id.clone()] {
            let request = ImageStatusRequest {
                image: Some(spec(&name)),
                verbose: false,
            };
            let found = node
                .wait(node.images().image_status(request))
                .unwrap()
                .into_inner()
                .image
                .unwrap();
            assert_eq!(found.repo_tags, Vec::<String>::new());
            assert!(
                found
                    .repo_digests
                    .contains(&node.image(&format!("busybox@{digest}")))
            );
        }
    });
}

fn many_callers_share_a_pull() {
    apart(|| {
        let image = busybox(&json!({"Cmd": ["sh"]}));
        let open = Arc::new(AtomicBool::new(false));
        let waits = open.clone();
        let node = Node::with(FakeRegistry::serving(&image, move |request| {
            while request.path.contains("/blobs/") && !waits.load(Ordering::SeqCst) {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            None
        }));
        let request = PullImageRequest {
            image: Some(spec(&node.image("busybox:1"))),
            ..PullImageRequest::default()
        };
        let ids = node.wait(async {
            let callers = (0..32).map(|_| {
                let (mut images, request) = (node.images(), request.clone());
                async move {
                    images
                        .pull_image(request)
                        .await
                        .unwrap()
                        .into_inner()
                        .image_ref
                }
            });
            // One gives up at once; the others are not harmed.
            let mut early = node.images();
            let early = early.pull_image(request.clone());
            let short = std::time::Duration::from_millis(50);
            tokio::time::timeout(short, early).await.unwrap_err();
            let callers = callers.map(tokio::spawn).collect::<Vec<_>>();
            open.store(true, Ordering::SeqCst);
            let mut ids = Vec::new();
            for caller in callers {
                ids.push(caller.await.unwrap());
            }
            ids
        });
        assert!(ids.iter().all(|id| *id == ids[0]));
        let manifests = node.registry.requests();
        let manifests = manifests
            .iter()
            .filter(|r| r.path.contains("/manifests/") && r.method == "GET");
        // That of the caller who gave up, and that of all the others.
        assert!(manifests.count() <= 2);
    });
}

fn requests_that_cannot_be() {
    apart(|| {
        let image = busybox(&json!({"Cmd": ["sh"]}));
        let node = Node::with(FakeRegistry::serving(&image, |request| {
            request
                .path
                .contains("/down/")
                .then(|| Answer::Whole(503, Vec::new(), Vec::new()))
        }));
        let pull = |image: Option<&str>, auth: Option<AuthConfig>| {
            let image = image.map(spec);
            let request = PullImageRequest {
                image,
                auth,
                sandbox_config: None,
            };
            node.wait(node.images().pull_image(request))
        };
        refused(pull(None, None), Code::InvalidArgument, "image: is not set");
        refused(
            pull(Some(""), None),
            Code::InvalidArgument,
            "image.image: is empty",
        );
        refused(
            pull(Some("A:b:c"), None),
            Code::InvalidArgument,
            "image.image: ",
        );
        let auth = AuthConfig {
            auth: "*".into(),
            ..AuthConfig::default()
        };
        refused(
            pull(Some("a"), Some(auth)),
            Code::InvalidArgument,
            "auth.auth: ",
        );
        refused(
            node.pull("x/down/y:1"),
            Code::Unknown,
            "RegistryUnavailable: ",
        );
        let status = |name: &str| {
            let request = ImageStatusRequest {
                image: Some(spec(name)),
                verbose: false,
            };
            node.wait(node.images().image_status(request))
        };
        refused(status(""), Code::InvalidArgument, "image.image: is empty");
        refused(status("Nonsense!"), Code::InvalidArgument, "image");
    });
}

/// The name of a registry that nobody has; a `hosts.toml` leads to the one that is there.
fn by_a_mirror() {
    apart(|| {
        let node = Node::new();
        let dir = node.path("certs.d/far.example");
        std::fs::create_dir_all(&dir).unwrap();
        let hosts = format!(
            "[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
            node.registry.host
        );
        std::fs::write(dir.join("hosts.toml"), hosts).unwrap();
        let request = PullImageRequest {
            image: Some(spec("far.example/busybox:1")),
            ..PullImageRequest::default()
        };
        node.wait(node.images().pull_image(request)).unwrap();
        let images = node.wait(node.images().list_images(ListImagesRequest::default()));
        assert_eq!(
            images.unwrap().into_inner().images[0].repo_tags,
            ["far.example/busybox:1"]
        );
    });
}

/// A registry that serves busybox to who has this authorization, and asks others for one by `challenge`. Before it
/// serves, it waits until `others` were refused.
fn guarded(authorization: &'static str, challenge: &'static str, others: usize) -> FakeRegistry {
    let image = busybox(&json!({"Cmd": ["sh"]}));
    let refused = AtomicUsize::new(0);
    FakeRegistry::start(move |request| {
        let given = request.headers.get("authorization");
        if given.is_some_and(|given| given == authorization) {
            eventually("the others are refused", || {
                refused.load(Ordering::SeqCst) >= others
            });
            return honest(&image, request);
        }
        refused.fetch_add(usize::from(given.is_some()), Ordering::SeqCst);
        let ask = ("www-authenticate".to_owned(), challenge.to_owned());
        Answer::Whole(401, vec![ask], Vec::new())
    })
}

fn pull_as(node: &Node, auth: Option<AuthConfig>) -> PullImageRequest {
    PullImageRequest {
        image: Some(spec(&node.image("busybox:1"))),
        auth,
        sandbox_config: None,
    }
}

fn password(password: &str) -> Option<AuthConfig> {
    Some(AuthConfig {
        username: "u".into(),
        password: password.into(),
        ..AuthConfig::default()
    })
}

/// Who may not have an image does not get it because somebody else may.
fn credentials_are_not_shared() {
    apart(|| {
        let node = Node::with(guarded("Basic dTpw", "Basic realm=\"x\"", 0));
        let pull = |auth| node.wait(node.images().pull_image(pull_as(&node, auth)));
        refused(pull(None), Code::PermissionDenied, "pull");
        pull(password("p")).unwrap();
        refused(pull(password("wrong")), Code::PermissionDenied, "pull");
        refused(pull(None), Code::PermissionDenied, "pull");
    });
}

/// Not even when both ask at once.
fn credentials_are_not_shared_at_once() {
    apart(|| {
        let node = Node::with(guarded("Basic dTpw", "Basic realm=\"x\"", 1));
        let (mut one, mut two) = (node.images(), node.images());
        let (good, bad) = node.wait(async {
            tokio::join!(
                one.pull_image(pull_as(&node, password("p"))),
                two.pull_image(pull_as(&node, password("wrong")))
            )
        });
        good.unwrap();
        refused(bad, Code::PermissionDenied, "pull");
    });
}

fn a_token_of_the_registry() {
    apart(|| {
        let challenge = "Bearer realm=\"http://127.0.0.1:1/token\",service=\"x\"";
        let node = Node::with(guarded("Bearer good", challenge, 0));
        let pull = |token: &str| {
            let auth = AuthConfig {
                registry_token: token.into(),
                ..AuthConfig::default()
            };
            node.wait(node.images().pull_image(pull_as(&node, Some(auth))))
        };
        refused(pull("bad"), Code::PermissionDenied, "pull");
        pull("good").unwrap();
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [
        versions_conditions_and_configuration,
        reload_by_signal,
        words_for_systemd,
        pulled_found_by_every_name_and_removed,
        by_the_digest_of_an_index,
        many_callers_share_a_pull,
        requests_that_cannot_be,
        by_a_mirror,
        credentials_are_not_shared,
        credentials_are_not_shared_at_once,
        a_token_of_the_registry,
    ],
}
