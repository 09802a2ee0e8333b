//! Pulling and unpacking one image of three gzip layers from a registry on loopback, with a cold cache.
//!
//! ocirun-image ends with its files on disk: its barrier is in its time. The peers' own defaults leave the unpacked files
//! to the kernel; the subjects named `synced` are followed by sync(1) on the same file system, inside the measured time.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::programs::{in_path, workspace};
use crate::table::{Goal, Row, Table, Unit};

/// Pulls take seconds: more than this many samples a subject tell nothing new.
const MOST_RUNS: usize = 5;
const OURS: &str = "ocirun-image";
const CONTAINERD: &str = "containerd";

/// A scratch directory with an image in a registry; all of it goes when this is dropped.
struct Lab {
    dir: PathBuf,
    registry: Child,
    host: String,
    ours: PathBuf,
    payload: String,
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.registry.kill());
        drop(self.registry.wait());
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// Takes one sample.
type Subject = fn(&Lab) -> Sample;

/// Time in seconds and peak memory in KiB, where it could be seen.
type Sample = Result<(f64, Option<f64>), String>;

/// Measures the suite.
///
/// # Errors
/// What the image or the registry could not be made with.
pub fn measure(options: &Options) -> Result<Table, String> {
    let lab = Lab::set_up(&options.output.join("pull"))?;
    let mut time = Row::new("pull", "pull and unpack", Unit::Seconds);
    let mut memory = Row::new(
        "pull-memory",
        "peak memory of the pulling process",
        Unit::Kibibytes,
    );
    let subjects: [(&str, Subject); 6] = [
        (OURS, |lab| lab.ocirun(&[])),
        ("ocirun-image --discard-blobs", |lab| {
            lab.ocirun(&["--discard-blobs"])
        }),
        (CONTAINERD, |lab| lab.containerd(false)),
        ("containerd, synced", |lab| lab.containerd(true)),
        ("podman", Lab::podman),
        ("skopeo + umoci raw unpack", Lab::skopeo_umoci),
    ];
    let mut taken = subjects.map(|_| Ok(Vec::new()));
    // In turn, so that what else the machine does meets all of them.
    for _ in 0..options.runs.min(MOST_RUNS) {
        for ((_, subject), taken) in subjects.iter().zip(&mut taken) {
            let Ok(samples) = taken else { continue };
            match subject(&lab) {
                Ok(sample) => samples.push(sample),
                Err(reason) => *taken = Err(reason),
            }
            lab.clear()?;
        }
        if crate::sys::interrupted() {
            break;
        }
    }
    for ((name, _), samples) in subjects.into_iter().zip(taken) {
        let samples = match samples {
            Ok(samples) => samples,
            Err(reason) => {
                time.missing(name, &reason);
                memory.missing(name, &reason);
                continue;
            }
        };
        time.measured(name, samples.iter().map(|(seconds, _)| *seconds).collect());
        match samples
            .iter()
            .map(|(_, peak)| *peak)
            .collect::<Option<Vec<_>>>()
        {
            Some(peaks) => memory.measured(name, peaks),
            None => memory.missing(name, "several processes"),
        }
    }
    time.goals.push(Goal::ratio(OURS, CONTAINERD, 0.4));
    memory.goals.push(Goal::absolute(OURS, 65536.0));
    Ok(Table {
        suite: "pull",
        title: format!(
            "Pull and unpack from a registry on loopback, cold cache: {}",
            lab.payload
        ),
        notes: vec![
            "ocirun-image ends with everything on disk; others only where the name says synced"
                .to_owned(),
        ],
        rows: vec![time, memory],
    })
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{:?}: {}",
        command.get_program(),
        said.lines().last().unwrap_or("failed")
    ))
}

/// The program of a peer, or the reason why it is not measured.
fn peer(name: &str) -> Result<Command, String> {
    in_path(name)
        .map(Command::new)
        .ok_or_else(|| format!("{name} not found on this machine"))
}

fn drop_caches() -> Result<(), String> {
    run(&mut Command::new("sync"))?;
    fs::write("/proc/sys/vm/drop_caches", "3").map_err(|error| format!("drop caches: {error}"))
}

/// The highest resident size of a running process so far.
fn peak(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Runs one process to its end, and watches its memory.
fn watched(command: &mut Command) -> Sample {
    let begin = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    let mut most = None;
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            let seconds = begin.elapsed().as_secs_f64();
            return if status.success() {
                Ok((seconds, most))
            } else {
                Err(format!("{:?}: {status}", command.get_program()))
            };
        }
        most = peak(child.id()).or(most);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Regular files and directories below `root`, until a size or count is reached.
fn pick(root: &Path, bytes: u64, entries: usize) -> Vec<PathBuf> {
    let (mut picked, mut size, mut todo) = (Vec::new(), 0, vec![root.to_owned()]);
    while let Some(path) = todo.pop() {
        let Ok(meta) = path.symlink_metadata() else {
            continue;
        };
        if meta.is_dir() {
            let inner = fs::read_dir(&path)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path());
            let mut inner = inner.collect::<Vec<_>>();
            inner.sort();
            todo.extend(inner);
        } else if size + meta.len() > bytes {
            continue;
        } else {
            size += meta.len();
        }
        picked.push(path);
        if picked.len() >= entries {
            break;
        }
    }
    picked
}

impl Lab {
    fn set_up(dir: &Path) -> Result<Self, String> {
        drop(fs::remove_dir_all(dir));
        fs::create_dir_all(dir).map_err(|error| format!("make {dir:?}: {error}"))?;
        let (umoci, skopeo) = (peer("umoci")?, peer("skopeo")?);
        let at = |name: &str| dir.join(name);
        let image = format!("{}:bench", at("oci").display());
        let umoci = |arguments: &[&str]| run(Command::new(umoci.get_program()).args(arguments));
        umoci(&["init", "--layout", &at("oci").display().to_string()])?;
        umoci(&["new", "--image", &image])?;
        let (mut bytes, mut entries) = (0, 0);
        for (root, most, count) in [
            ("/usr/lib", 330 << 20, 8000),
            ("/usr/bin", 330 << 20, 2000),
            ("/usr/share", 160 << 20, 12000),
        ] {
            let (list, tar) = (at("list"), at("layer.tar"));
            let picked = pick(Path::new(root), most, count);
            entries += picked.len();
            let text = picked
                .iter()
                .filter_map(|path| path.to_str())
                .map(|path| format!("{path}\0"))
                .collect::<String>();
            fs::write(&list, text).map_err(|error| format!("write {list:?}: {error}"))?;
            run(peer("tar")?
                .args(["-P", "--no-recursion", "--null", "-cf"])
                .arg(&tar)
                .arg("-T")
                .arg(&list))?;
            bytes += fs::metadata(&tar)
                .map_err(|error| format!("{tar:?}: {error}"))?
                .len();
            umoci(&[
                "raw",
                "add-layer",
                "--image",
                &image,
                &tar.display().to_string(),
            ])?;
        }
        let (registry, host) = Self::registry(dir)?;
        let payload = format!(
            "{} MB in {entries} entries, 3 gzip layers",
            bytes / 1_000_000
        );
        let lab = Self {
            dir: dir.to_owned(),
            registry,
            host,
            ours: own_program()?,
            payload,
        };
        let target = format!("docker://{}", lab.image());
        run(Command::new(skopeo.get_program()).args([
            "copy",
            "-q",
            "--dest-tls-verify=false",
            &format!("oci:{image}"),
            &target,
        ]))?;
        Ok(lab)
    }

    fn registry(dir: &Path) -> Result<(Child, String), String> {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let host = free
            .map_err(|error| format!("a free port: {error}"))?
            .to_string();
        let config = dir.join("registry.yml");
        let data = dir.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {host}}}\n",
            data.display()
        );
        fs::write(&config, text).map_err(|error| format!("write {config:?}: {error}"))?;
        let mut registry = peer("docker-registry")?
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("docker-registry: {error}"))?;
        for _ in 0..500 {
            if TcpStream::connect(&host).is_ok() {
                return Ok((registry, host));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(registry.kill());
        drop(registry.wait());
        Err("docker-registry does not answer".to_owned())
    }

    fn image(&self) -> String {
        format!("{}/bench/image:1", self.host)
    }

    /// A directory of the subject's own, gone after each sample.
    fn scratch(&self) -> Result<PathBuf, String> {
        let scratch = self.dir.join("scratch");
        fs::create_dir_all(&scratch).map_err(|error| format!("make {scratch:?}: {error}"))?;
        Ok(scratch)
    }

    fn clear(&self) -> Result<(), String> {
        // Read-only directories of unpacked images do not stop root.
        run(Command::new("rm").arg("-rf").arg(self.dir.join("scratch"))).map(drop)
    }

    fn ocirun(&self, flags: &[&str]) -> Sample {
        let scratch = self.scratch()?;
        drop_caches()?;
        watched(
            Command::new(&self.ours)
                .arg("--root")
                .arg(scratch)
                .args(["pull", "-q"])
                .args(flags)
                .arg(self.image()),
        )
    }

    fn containerd(&self, synced: bool) -> Sample {
        let (daemon, client) = (peer("containerd")?, peer("ctr")?);
        let scratch = self.scratch()?;
        let socket = scratch.join("socket");
        let config = scratch.join("config.toml");
        let text = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        fs::write(&config, text).map_err(|error| format!("write {config:?}: {error}"))?;
        let mut daemon = Command::new(daemon.get_program())
            .arg("--config")
            .arg(&config)
            .arg("--root")
            .arg(scratch.join("root"))
            .arg("--state")
            .arg(scratch.join("state"))
            .arg("--address")
            .arg(&socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("containerd: {error}"))?;
        let ctr = || {
            let mut command = Command::new(client.get_program());
            command.arg("--address").arg(&socket);
            command
        };
        for _ in 0..500 {
            if ctr()
                .arg("version")
                .output()
                .is_ok_and(|output| output.status.success())
            {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let sample = drop_caches().and_then(|()| {
            let begin = Instant::now();
            run(ctr().args(["images", "pull", "--plain-http", &self.image()]))?;
            if synced {
                run(Command::new("sync").arg("-f").arg(&scratch))?;
            }
            Ok((begin.elapsed().as_secs_f64(), peak(daemon.id())))
        });
        drop(daemon.kill());
        drop(daemon.wait());
        sample
    }

    fn podman(&self) -> Sample {
        let mut podman = peer("podman")?;
        let scratch = self.scratch()?;
        drop_caches()?;
        podman
            .arg("--root")
            .arg(scratch.join("root"))
            .arg("--runroot")
            .arg(scratch.join("run"));
        watched(podman.args([
            "--storage-driver",
            "overlay",
            "pull",
            "-q",
            "--tls-verify=false",
            &self.image(),
        ]))
    }

    fn skopeo_umoci(&self) -> Sample {
        let (mut skopeo, mut umoci) = (peer("skopeo")?, peer("umoci")?);
        let scratch = self.scratch()?;
        let oci = format!("{}:bench", scratch.join("oci").display());
        drop_caches()?;
        let begin = Instant::now();
        let source = format!("docker://{}", self.image());
        run(skopeo.args([
            "copy",
            "-q",
            "--src-tls-verify=false",
            &source,
            &format!("oci:{oci}"),
        ]))?;
        run(umoci
            .args(["raw", "unpack", "--image", &oci])
            .arg(scratch.join("rootfs")))?;
        Ok((begin.elapsed().as_secs_f64(), None))
    }
}

/// Builds `ocirun-image` from this workspace, or takes the one that `IMAGE_PROGRAM` names.
fn own_program() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("IMAGE_PROGRAM").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let messages = run(Command::new(cargo).current_dir(workspace()).args([
        "build",
        "--quiet",
        "--release",
        "--message-format=json",
        "--package",
        "image-store",
        "--bin",
        "ocirun-image",
    ]))?;
    let executable = |line: &str| {
        let message = serde_json::from_str::<serde_json::Value>(line).ok()?;
        (message["target"]["name"] == "ocirun-image")
            .then(|| message["executable"].as_str().map(PathBuf::from))?
    };
    messages
        .lines()
        .find_map(executable)
        .ok_or_else(|| "cargo built no ocirun-image".to_owned())
}
