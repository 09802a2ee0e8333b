//! The daemons measured, each with directories of its own, spoken to by the Container Runtime Interface.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Network;
use crate::programs::run;
use cri_server::api;
use cri_server::api::runtime_service_client::RuntimeServiceClient;
use serde_json::json;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

/// The image whose containers are measured, and the one that containerd's pods are held by.
pub(super) const IMAGE: &str = "bench.invalid/busybox:1";
const PAUSE: &str = "bench.invalid/pause:1";

/// Where Debian has the plugins of networks.
const PLUGINS: &str = "/usr/lib/cni";

/// How long a daemon may take to answer at first, and a container to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which daemon it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ocirun,
    Containerd,
}

/// A daemon that serves. Its pods are removed with it.
#[derive(Debug)]
pub(super) struct Daemon {
    kind: Kind,
    programs: Vec<PathBuf>,
    dir: PathBuf,
    cgroup: String,
    network: Network,
    child: Child,
    runtime: Runtime,
    client: RuntimeServiceClient<Channel>,
    pods: u32,
}

/// A pod with one container in it.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) config: api::PodSandboxConfig,
    pub(super) id: String,
}

type Answer<T> = Result<T, String>;

fn told<T>(call: &str, answer: Result<tonic::Response<T>, tonic::Status>) -> Answer<T> {
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| format!("{call}: {:?}: {}", status.code(), status.message()))
}

impl Daemon {
    /// Starts a daemon in a directory and a cgroup, with the images of the archives (docker's form), and waits until it
    /// answers.
    ///
    /// `programs` is the daemon and the program that imports images.
    ///
    /// # Errors
    /// What could not be started or imported.
    pub(super) fn start(
        (kind, network): (Kind, Network),
        programs: [PathBuf; 2],
        (dir, cgroup): (PathBuf, String),
        archives: &[PathBuf],
    ) -> Answer<Self> {
        let dir = &*dir;
        fs::create_dir_all(dir).map_err(|error| format!("make {dir:?}: {error}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("tokio: {error}"))?;
        configure(kind, network, dir)?;
        if kind == Kind::Ocirun {
            import(kind, &programs[1], dir, archives)?;
        }
        let child = spawn(kind, &programs[0], dir)?;
        let client = connect(&runtime, dir)?;
        let mut daemon = Self {
            kind,
            programs: programs.to_vec(),
            dir: dir.to_owned(),
            cgroup,
            network,
            child,
            runtime,
            client,
            pods: 0,
        };
        daemon.wait_until_it_answers()?;
        if kind == Kind::Containerd {
            import(kind, &daemon.programs[1], dir, archives)?;
        }
        Ok(daemon)
    }

    fn wait_until_it_answers(&mut self) -> Answer<()> {
        let begin = Instant::now();
        loop {
            let request = api::VersionRequest {
                version: "0.1.0".to_owned(),
            };
            let answer = self.runtime.block_on(self.client.version(request));
            match told("Version", answer) {
                Ok(_) => return Ok(()),
                Err(reason) if begin.elapsed() > PATIENCE => return Err(reason),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Kills the daemon, starts it again, and says how long it took until it listed `count` pods.
    pub(super) fn restart(&mut self, count: usize) -> Answer<Duration> {
        drop(self.child.kill());
        drop(self.child.wait());
        let begin = Instant::now();
        self.child = spawn(self.kind, &self.programs[0], &self.dir)?;
        self.client = connect(&self.runtime, &self.dir)?;
        self.wait_until_it_answers()?;
        while self.list()?.len() != count {
            if begin.elapsed() > PATIENCE {
                return Err(format!("it does not list {count} pods after its restart"));
            }
        }
        Ok(begin.elapsed())
    }

    pub(super) fn list(&mut self) -> Answer<Vec<api::PodSandbox>> {
        let request = api::ListPodSandboxRequest::default();
        let answer = self.runtime.block_on(self.client.list_pod_sandbox(request));
        told("ListPodSandbox", answer).map(|list| list.items)
    }

    /// The configuration of another pod.
    pub(super) fn pod_config(&mut self) -> api::PodSandboxConfig {
        self.pods += 1;
        let name = format!("pod-{}", self.pods);
        let logs = self.dir.join("logs").join(&name);
        // The caller makes it, as kubelet does.
        drop(fs::create_dir_all(&logs));
        let namespaces = api::NamespaceOption {
            network: match self.network {
                Network::Host => api::NamespaceMode::Node as i32,
                Network::Plugins => api::NamespaceMode::Pod as i32,
            },
            pid: api::NamespaceMode::Container as i32,
            ..Default::default()
        };
        api::PodSandboxConfig {
            metadata: Some(api::PodSandboxMetadata {
                uid: format!("{name}-uid"),
                name,
                namespace: "bench".to_owned(),
                attempt: 0,
            }),
            log_directory: logs.display().to_string(),
            linux: Some(api::LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup.clone(),
                security_context: Some(api::LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub(super) fn run_pod(&mut self) -> Answer<Pod> {
        let config = self.pod_config();
        let request = api::RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        };
        let answer = self.runtime.block_on(self.client.run_pod_sandbox(request));
        let id = told("RunPodSandbox", answer)?.pod_sandbox_id;
        Ok(Pod { config, id })
    }

    /// Creates and starts a container that runs `command`; gives its id.
    pub(super) fn run_container(&mut self, pod: &Pod, command: &[&str]) -> Answer<String> {
        let request = container_of(pod, command);
        let answer = self.runtime.block_on(self.client.create_container(request));
        let container_id = told("CreateContainer", answer)?.container_id;
        let request = api::StartContainerRequest {
            container_id: container_id.clone(),
        };
        let answer = self.runtime.block_on(self.client.start_container(request));
        told("StartContainer", answer)?;
        Ok(container_id)
    }

    pub(super) fn exec(&mut self, container_id: &str, command: &[&str]) -> Answer<()> {
        let request = api::ExecSyncRequest {
            container_id: container_id.to_owned(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            timeout: 30,
        };
        let answer = self.runtime.block_on(self.client.exec_sync(request));
        match told("ExecSync", answer)?.exit_code {
            0 => Ok(()),
            code => Err(format!("ExecSync: exit code {code}")),
        }
    }

    /// Waits until a container has ended.
    pub(super) fn wait_for_end(&mut self, container_id: &str) -> Answer<()> {
        let begin = Instant::now();
        loop {
            let request = api::ContainerStatusRequest {
                container_id: container_id.to_owned(),
                verbose: false,
            };
            let answer = self.runtime.block_on(self.client.container_status(request));
            let status = told("ContainerStatus", answer)?.status.unwrap_or_default();
            if status.state == api::ContainerState::ContainerExited as i32 {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE * 4 {
                return Err("the container does not end".to_owned());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops the container at once, where there is one, and stops and removes the pod.
    pub(super) fn remove(&mut self, pod: &Pod, container_id: Option<&str>) -> Answer<()> {
        if let Some(container_id) = container_id {
            let request = api::StopContainerRequest {
                container_id: container_id.to_owned(),
                timeout: 0,
            };
            let answer = self.runtime.block_on(self.client.stop_container(request));
            told("StopContainer", answer)?;
        }
        let request = api::StopPodSandboxRequest {
            pod_sandbox_id: pod.id.clone(),
        };
        let answer = self.runtime.block_on(self.client.stop_pod_sandbox(request));
        told("StopPodSandbox", answer)?;
        let request = api::RemovePodSandboxRequest {
            pod_sandbox_id: pod.id.clone(),
        };
        let answer = self
            .runtime
            .block_on(self.client.remove_pod_sandbox(request));
        told("RemovePodSandbox", answer).map(drop)
    }

    /// Brings up `count` pods with one container each, `at_once` at a time.
    pub(super) fn run_many(
        &mut self,
        count: usize,
        at_once: usize,
        command: &[&str],
    ) -> Answer<Vec<Pod>> {
        let mut configs = (0..count).map(|_| self.pod_config()).collect::<Vec<_>>();
        let (client, mut pods) = (self.client.clone(), Vec::new());
        let command = command
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>();
        self.runtime
            .block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                loop {
                    while tasks.len() < at_once
                        && let Some(config) = configs.pop()
                    {
                        tasks.spawn(bring_up(client.clone(), config, command.clone()));
                    }
                    match tasks.join_next().await {
                        None => return Ok(()),
                        Some(pod) => pods.push(pod.map_err(|error| error.to_string())??),
                    }
                }
            })
            .map(|()| pods)
    }

    /// Resident memory of the daemon, in KiB, what it shares with others shared out.
    pub(super) fn memory(&self) -> Answer<f64> {
        pss(self.child.id())
    }

    /// The same of all that keeps the pods, their containers' own processes aside.
    pub(super) fn memory_of_pods(&self) -> Answer<f64> {
        let mut sum = 0.0;
        for pid in keepers(&state(&self.dir), self.child.id()) {
            sum += pss(pid).unwrap_or_default();
        }
        Ok(sum)
    }

    /// Where the log of the container of a pod is.
    pub(super) fn log(pod: &Pod) -> PathBuf {
        Path::new(&pod.config.log_directory).join(LOG)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for item in self.list().unwrap_or_default() {
            let pod = Pod {
                config: api::PodSandboxConfig::default(),
                id: item.id,
            };
            drop(self.remove(&pod, None));
        }
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(state(&self.dir)));
    }
}

const LOG: &str = "log";

fn container_of(pod: &Pod, command: &[&str]) -> api::CreateContainerRequest {
    api::CreateContainerRequest {
        pod_sandbox_id: pod.id.clone(),
        config: Some(api::ContainerConfig {
            metadata: Some(api::ContainerMetadata {
                name: "container".to_owned(),
                attempt: 0,
            }),
            image: Some(api::ImageSpec {
                image: IMAGE.to_owned(),
                ..Default::default()
            }),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            log_path: LOG.to_owned(),
            linux: Some(api::LinuxContainerConfig::default()),
            ..Default::default()
        }),
        sandbox_config: Some(pod.config.clone()),
    }
}

async fn bring_up(
    mut client: RuntimeServiceClient<Channel>,
    config: api::PodSandboxConfig,
    command: Vec<String>,
) -> Answer<Pod> {
    let request = api::RunPodSandboxRequest {
        config: Some(config.clone()),
        ..Default::default()
    };
    let id = told("RunPodSandbox", client.run_pod_sandbox(request).await)?.pod_sandbox_id;
    let pod = Pod { config, id };
    let words = command.iter().map(String::as_str).collect::<Vec<_>>();
    let answer = client.create_container(container_of(&pod, &words)).await;
    let container_id = told("CreateContainer", answer)?.container_id;
    let request = api::StartContainerRequest { container_id };
    told("StartContainer", client.start_container(request).await)?;
    Ok(pod)
}

/// Where a daemon keeps its sockets, whose paths have to be short.
fn state(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let letter = name.chars().next().unwrap_or_default();
    PathBuf::from(format!("/run/bench-{}-{letter}", std::process::id()))
}

fn socket(dir: &Path) -> PathBuf {
    state(dir).join("cri.sock")
}

fn connect(runtime: &Runtime, dir: &Path) -> Answer<RuntimeServiceClient<Channel>> {
    let address = format!("unix://{}", socket(dir).display());
    let endpoint = Endpoint::from_shared(address).map_err(|error| error.to_string())?;
    let _guard = runtime.enter();
    Ok(RuntimeServiceClient::new(endpoint.connect_lazy()))
}

/// Moves this process into a network namespace where pods can have networks of their own.
pub(super) fn private_network() -> Answer<()> {
    crate::sys::private_network().map_err(|error| format!("private network: {error}"))?;
    run("ip", &["link", "set", "lo", "up"])?;
    let forward = "/proc/sys/net/ipv4/ip_forward";
    fs::write(forward, "1").map_err(|error| format!("write {forward}: {error}"))
}

/// Writes the configuration of a network that is the daemon's alone, and returns its directory.
fn configure_network(kind: Kind, dir: &Path) -> Answer<PathBuf> {
    let (name, subnet) = match kind {
        Kind::Ocirun => ("bench0", "10.201.0.0/16"),
        Kind::Containerd => ("bench1", "10.202.0.0/16"),
    };
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{"subnet": subnet}]],
        "dataDir": dir.join("addresses"),
    });
    let list = json!({
        "cniVersion": "1.0.0",
        "name": name,
        "plugins": [
            {"type": "bridge", "bridge": name, "isGateway": true, "ipMasq": true, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    let conf = dir.join("net.d");
    let path = conf.join("10-bench.conflist");
    fs::create_dir_all(&conf)
        .and_then(|()| fs::write(&path, list.to_string()))
        .map_err(|error| format!("write {path:?}: {error}"))?;
    Ok(conf)
}

fn configure(kind: Kind, network: Network, dir: &Path) -> Answer<()> {
    let conf = match network {
        Network::Host => dir.join("net.d"),
        Network::Plugins => configure_network(kind, dir)?,
    };
    let conf = conf.display();
    let (at, state, socket) = (dir.display(), state(dir), socket(dir));
    fs::create_dir_all(&state).map_err(|error| format!("make {state:?}: {error}"))?;
    let (state, socket) = (state.display(), socket.display());
    let text = match kind {
        Kind::Ocirun => format!(
            "listen = \"{socket}\"\nroot = \"{at}/root\"\nstate = \"{state}\"\n\
             cgroup_driver = \"cgroupfs\"\nlog_level = \"error\"\n\
             [network]\nconf_dir = \"{conf}\"\nbin_dirs = [\"{PLUGINS}\"]\n"
        ),
        Kind::Containerd => format!(
            "version = 2\nroot = \"{at}/root\"\nstate = \"{state}\"\n\
             [grpc]\naddress = \"{socket}\"\n[ttrpc]\naddress = \"{socket}.ttrpc\"\n[debug]\nlevel = \"error\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{PAUSE}\"\n\
             restrict_oom_score_adj = true\ndisable_apparmor = true\nstream_server_port = \"0\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir = \"{conf}\"\nbin_dir = \"{PLUGINS}\"\n"
        ),
    };
    let path = dir.join("config.toml");
    fs::write(&path, text).map_err(|error| format!("write {path:?}: {error}"))
}

fn spawn(kind: Kind, program: &Path, dir: &Path) -> Answer<Child> {
    let config = dir.join("config.toml");
    let log = dir.join("daemon.log");
    let log = fs::File::options()
        .append(true)
        .create(true)
        .open(&log)
        .map_err(|error| format!("open {log:?}: {error}"))?;
    let mut command = Command::new(program);
    command.arg("--config").arg(config);
    if kind == Kind::Containerd {
        // Its shims are looked for in PATH.
        command.env_remove("NOTIFY_SOCKET");
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| format!("{program:?}: {error}"))
}

fn import(kind: Kind, program: &Path, dir: &Path, archives: &[PathBuf]) -> Answer<()> {
    for archive in archives {
        let mut command = Command::new(program);
        match kind {
            Kind::Ocirun => command
                .arg("--root")
                .arg(dir.join("root/images"))
                .arg("import"),
            Kind::Containerd => command.arg("--address").arg(socket(dir)).args([
                "--namespace",
                "k8s.io",
                "images",
                "import",
            ]),
        };
        let output = command
            .arg(archive)
            .output()
            .map_err(|error| format!("{program:?}: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("import {archive:?}: {}", said.trim()));
        }
    }
    Ok(())
}

/// Makes the two images, and gives the archives that hold them.
///
/// # Errors
/// A program that is missing or fails.
pub(super) fn images(dir: &Path, busybox: &Path, pause: &Path) -> Answer<Vec<PathBuf>> {
    let mut archives = Vec::new();
    for (name, program, inside, links) in [
        (
            IMAGE,
            busybox,
            "bin/busybox",
            &["sh", "true", "sleep", "yes", "head"][..],
        ),
        (PAUSE, pause, "pause", &[]),
    ] {
        let short = inside.rsplit('/').next().unwrap_or(inside);
        let tree = dir.join(short);
        let made = (|| {
            fs::create_dir_all(tree.join("bin"))?;
            fs::copy(program, tree.join(inside))?;
            links.iter().try_for_each(|link| {
                std::os::unix::fs::symlink("busybox", tree.join("bin").join(link))
            })
        })();
        made.map_err(|error| format!("make {tree:?}: {error}"))?;
        let text = |path: PathBuf| path.display().to_string();
        let (tar, layout) = (
            text(dir.join(format!("{short}.tar"))),
            text(dir.join("oci")),
        );
        let image = format!("{layout}:{short}");
        let tree = text(tree);
        run("tar", &["-C", &tree, "-cf", &tar, "."])?;
        if !Path::new(&layout).exists() {
            run("umoci", &["init", "--layout", &layout])?;
        }
        run("umoci", &["new", "--image", &image])?;
        run("umoci", &["raw", "add-layer", "--image", &image, &tar])?;
        let entry = format!("/{inside}");
        run(
            "umoci",
            &["config", "--image", &image, "--config.entrypoint", &entry],
        )?;
        let archive = dir.join(format!("{short}.docker"));
        let target = format!("docker-archive:{}:{name}", archive.display());
        run("skopeo", &["copy", "-q", &format!("oci:{image}"), &target])?;
        archives.push(archive);
    }
    Ok(archives)
}

/// Proportional set size of a process in KiB, see proc_pid_smaps(5).
fn pss(pid: u32) -> Answer<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(|error| format!("read {path:?}: {error}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .ok_or_else(|| format!("{path:?}: no Pss"))
}

/// Processes that were started with a path below `dir` among their words, and those of their children that hold a pod;
/// without the daemon.
fn keepers(dir: &Path, daemon: u32) -> Vec<u32> {
    let mut found: Vec<(u32, u32, bool, bool)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let words = String::from_utf8_lossy(&read("cmdline")).into_owned();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let parent = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        let is_ours = pid != daemon && words.contains(&*dir.to_string_lossy());
        let is_pause = words
            .split('\0')
            .next()
            .is_some_and(|word| word.ends_with("pause"));
        found.push((pid, parent.unwrap_or_default(), is_ours, is_pause));
    }
    let ours = |pid: u32| {
        found
            .iter()
            .any(|(other, _, is_ours, _)| *other == pid && *is_ours)
    };
    found
        .iter()
        .filter(|(_, parent, is_ours, is_pause)| *is_ours || (*is_pause && ours(*parent)))
        .map(|(pid, ..)| *pid)
        .collect()
}
