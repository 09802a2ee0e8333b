//! A node under test: the server on a private socket and root, in mount and network namespaces of the test's own.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "shared by several files of tests; a broken bed ends the test, with the facts"
)]

mod calls;
pub mod network;
pub mod streams;

use cri_server::api::image_service_client::ImageServiceClient;
use cri_server::api::runtime_service_client::RuntimeServiceClient;
use cri_server::api::{
    ImageSpec, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata,
};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use ocirun_tests::image_support::{FakeRegistry, Header, Image, Tar, digest, gzip};
use ocirun_tests::pod::shim_program;
use ocirun_tests::{build, eventually, program_in_path};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// The server that `CRI=` names, or the one built from this workspace (once per process).
fn server_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("CRI") {
        Some(path) if !path.is_empty() => path.into(),
        _ => build("cri-server", "ocirun-cri"),
    })
}

/// Runs a test in namespaces of its own: in a thread, for a thread can have them alone.
pub fn apart(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
        let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).unwrap();
        let up = Command::new("busybox")
            .args(["ip", "link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success());
        body();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// An image of busybox with two users, by the name `busybox` among others of its registry.
pub fn busybox(config: &serde_json::Value) -> Image {
    let content = std::fs::read(program_in_path("busybox").unwrap()).unwrap();
    let header = Header {
        mode: 0o755,
        size: content.len() as u64,
        ..Header::new(b'0', "bin/busybox")
    };
    let passwd = b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n";
    let group = b"root:x:0:\napp:x:1000:\nextra:x:50000:app\n";
    let tar = [
        "bin", "data", "data/sub", "dev", "etc", "proc", "sys", "tmp",
    ]
    .into_iter()
    .fold(Tar::new(), |tar, dir| tar.dir(dir, 0o755))
    .entry(&header, &content)
    .file("etc/passwd", passwd)
    .file("etc/group", group)
    .file("data/sub/hello", b"hello\n");
    let tar = tar.end();
    Image::of(&[(gzip(&tar), digest(&tar))], config)
}

/// After this time a call hangs for ever.
const HANGS: Duration = Duration::from_secs(180);

/// A connection to the server that is or will be there.
fn connect(tokio: &tokio::runtime::Runtime, dir: &Path) -> Channel {
    let socket = format!("unix://{}", dir.join("run/cri.sock").display());
    let _inside = tokio.enter();
    Endpoint::from_shared(socket).unwrap().connect_lazy()
}

/// The server, what it stands on, and a client.
pub struct Node {
    dir: tempfile::TempDir,
    server: Option<Child>,
    tokio: tokio::runtime::Runtime,
    channel: Channel,
    pub registry: FakeRegistry,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Node {
    /// A node whose registry serves busybox under every name.
    pub fn new() -> Self {
        Self::with(FakeRegistry::serving(
            &busybox(&json!({"Cmd": ["sh"]})),
            |_| None,
        ))
    }

    /// A node that has the image `busybox:1`.
    pub fn ready() -> Self {
        let node = Self::new();
        node.pull("busybox:1").unwrap();
        node
    }

    /// A node with this registry.
    pub fn with(registry: FakeRegistry) -> Self {
        let dir = tempfile::Builder::new().prefix("cri").tempdir().unwrap();
        // The root of a user namespace has to reach what is below.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let channel = connect(&tokio, dir.path());
        let mut node = Self {
            dir,
            server: None,
            tokio,
            channel,
            registry,
        };
        std::fs::write(node.path("cri.toml"), node.config()).unwrap();
        node.start();
        node
    }

    fn config(&self) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        format!(
            "listen = {:?}\nroot = {:?}\nstate = {:?}\nnetns_dir = {:?}\nshim = {:?}\n[container]\ncdi_dirs = [{:?}]\n\
             [network]\nconf_dir = \"\"\ncache_dir = {:?}\n[registry]\nhosts_dirs = [{:?}]\nregistries_conf = {:?}\n",
            path("run/cri.sock"),
            path("root"),
            path("run"),
            path("netns"),
            shim_program(),
            path("cdi"),
            path("cni"),
            path("certs.d"),
            path("registries.conf"),
        )
    }

    /// A path in the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the server and waits until it serves.
    pub fn start(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("cri.log"))
            .unwrap();
        let socket = self.path("run/cri.sock");
        drop(std::fs::remove_file(&socket));
        let child = self.command().stderr(log).spawn().unwrap();
        self.server = Some(child);
        let server = self.server.as_mut().unwrap();
        // One to the server before is of no more use.
        self.channel = connect(&self.tokio, self.dir.path());
        eventually("the server serves", || {
            assert!(
                server.try_wait().unwrap().is_none(),
                "{}",
                self.dir.path().display()
            );
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
    }

    /// Starts the server anew, with more configuration.
    pub fn configure(&mut self, drop_in: &str) {
        self.kill();
        std::fs::create_dir(self.path("cri.d")).unwrap();
        std::fs::write(self.path("cri.d/10.toml"), drop_in).unwrap();
        self.start();
    }

    /// The server's program with the test's configuration.
    pub fn command(&self) -> Command {
        let mut command = Command::new(server_program());
        command.arg("--config").arg(self.path("cri.toml"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Kills the server, as nobody can hear.
    pub fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// The server's pid.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().unwrap().id()
    }

    /// Bytes of memory that are the server's own.
    pub fn memory(&self) -> u64 {
        self.of_status("RssAnon:")
    }

    /// The most memory that the server has had, in bytes.
    pub fn most_memory(&self) -> u64 {
        self.of_status("VmHWM:")
    }

    fn of_status(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse::<u64>().unwrap() << 10
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("cri.log")).unwrap()
    }

    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone())
    }

    /// Nothing of any pod is left: no file, mount, process or cgroup that names the test's directory or an id.
    pub fn assert_nothing_left(&self) {
        let names = |name: &str| {
            let entries = std::fs::read_dir(self.path(name));
            let entries = entries.into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        for dir in ["run/pods", "root/containers", "netns"] {
            assert_eq!(names(dir), Vec::<PathBuf>::new());
        }
        let root = self.dir.path().display().to_string();
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(!mounts.contains(&root), "{mounts}");
        assert_eq!(processes(&root), Vec::<String>::new());
    }
}

/// Command lines of processes that name a directory, but for the server's.
fn processes(dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines
        .filter(|line| line.contains(dir) && !line.contains("cri.toml"))
        .collect()
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.server.is_some() && !std::thread::panicking() {
            for pod in self.pods() {
                self.remove_pod(&pod);
            }
        }
        if let Some(mut server) = self.server.take() {
            drop(server.kill());
            drop(server.wait());
        }
        // A test that failed: what its shims keep ends with them, and with their containers.
        for pod in std::fs::read_dir(self.path("run/pods"))
            .into_iter()
            .flatten()
            .flatten()
        {
            end_by_force(&pod.path());
        }
        if std::thread::panicking() {
            eprintln!(
                "{}",
                std::fs::read_to_string(self.path("cri.log")).unwrap_or_default()
            );
        }
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let root = self.dir.path().to_owned();
        for point in points
            .filter(|point| Path::new(point).starts_with(&root))
            .collect::<Vec<_>>()
            .iter()
            .rev()
        {
            // Whatever is left then, the test's namespace takes with it.
            let _ = umount(*point);
        }
    }
}

/// Ends a shim that was started by the test's server, with its containers, each by its own pid.
pub fn end_by_force(pod: &Path) {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let (mut pids, mut cgroups) = (Vec::new(), Vec::new());
    let shim = std::fs::read_to_string(pod.join("shim.pid"));
    pids.extend(shim.ok().and_then(|pid| pid.trim().parse::<i32>().ok()));
    for container in std::fs::read_dir(pod.join("runtime"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let state = std::fs::read(container.path().join("state.json")).unwrap_or_default();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap_or_default();
        pids.extend(
            state["init"]["pid"]
                .as_i64()
                .and_then(|pid| i32::try_from(pid).ok()),
        );
        let of_version_1 = state["cgroup"]["v1"].as_array().into_iter().flatten();
        let paths = of_version_1.map(|directory| &directory["path"]);
        let paths = paths.chain([&state["cgroup"]["unified"]]);
        cgroups.extend(paths.filter_map(|path| Some(PathBuf::from(path.as_str()?))));
    }
    for pid in pids.into_iter().filter(|pid| *pid > 1) {
        // Gone meanwhile is what is wanted.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    // A process that was killed leaves a moment later.
    for _ in 0..100 {
        cgroups.retain(|path| std::fs::remove_dir(path).is_err() && path.is_dir());
        if cgroups.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn spec(image: &str) -> ImageSpec {
    ImageSpec {
        image: image.to_owned(),
        ..ImageSpec::default()
    }
}

/// A pod on the host's network, whose containers have their own processes.
pub fn pod_config() -> PodSandboxConfig {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut config = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: format!("p{number}"),
            uid: format!("u{number}"),
            namespace: "test".to_owned(),
            attempt: 0,
        }),
        linux: Some(LinuxPodSandboxConfig::default()),
        ..PodSandboxConfig::default()
    };
    namespaces(&mut config, |options| {
        options.network = NamespaceMode::Node.into();
        options.pid = NamespaceMode::Container.into();
    });
    config
}

/// Changes what namespaces a pod has.
pub fn namespaces(config: &mut PodSandboxConfig, change: impl FnOnce(&mut NamespaceOption)) {
    let linux = config.linux.get_or_insert_default();
    let context: &mut LinuxSandboxSecurityContext = linux.security_context.get_or_insert_default();
    change(context.namespace_options.get_or_insert_default());
}

/// The text of a log, without what the log adds: each line's parts put together.
pub fn text(log: &Path) -> String {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let mut text = String::new();
    for line in log.lines() {
        let mut words = line.splitn(4, ' ');
        let (_time, _stream, tag) = (words.next(), words.next(), words.next());
        text += words.next().unwrap_or_default();
        if tag == Some("F") {
            text.push('\n');
        }
    }
    text
}

/// The error of a call that has to fail so.
pub fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &str) {
    let error = answer.expect_err(words);
    assert_eq!(error.code(), code, "{error}");
    assert!(error.message().contains(words), "{error}");
}
