//! What tests of `ocirun-image` stand on: archives with any header, layouts made of them, stores that go away, a registry
//! that misbehaves as told.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, OnceLock};

/// The program under test: `IMAGE_PROGRAM`, or built from this workspace.
pub fn image_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("IMAGE_PROGRAM") {
        Some(path) if !path.is_empty() => path.into(),
        _ => crate::build("image-store", "ocirun-image"),
    })
}

/// `sha256:` and the digest of `data`.
pub fn digest(data: &[u8]) -> String {
    let hex = Sha256::digest(data)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect::<String>();
    format!("sha256:{hex}")
}

/// A tar archive that is written header by header, so that it can say anything.
#[derive(Debug, Clone, Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

/// The fields of one header; the rest is zero.
#[derive(Debug, Clone)]
pub struct Header {
    /// Up to 100 bytes.
    pub name: Vec<u8>,
    /// Type flag.
    pub flag: u8,
    /// Permission bits.
    pub mode: u32,
    /// The size field; the body need not have it.
    pub size: u64,
    /// Link target.
    pub link: Vec<u8>,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Seconds.
    pub mtime: u64,
    /// Device numbers.
    pub device: (u32, u32),
}

impl Header {
    /// A header of this type and name.
    pub fn new(flag: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            flag,
            mode: if flag == b'5' { 0o755 } else { 0o644 },
            size: 0,
            link: Vec::new(),
            owner: (0, 0),
            mtime: 1_700_000_000,
            device: (0, 0),
        }
    }

    /// The block with its checksum.
    pub fn block(&self) -> Vec<u8> {
        let mut block = vec![0_u8; 512];
        let mut put = |at: usize, data: &[u8]| block[at..at + data.len()].copy_from_slice(data);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, format!("{:07o}\0", self.owner.0).as_bytes());
        put(116, format!("{:07o}\0", self.owner.1).as_bytes());
        put(124, format!("{:011o}\0", self.size).as_bytes());
        put(136, format!("{:011o}\0", self.mtime).as_bytes());
        put(156, &[self.flag]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}\0", self.device.0).as_bytes());
        put(337, format!("{:07o}\0", self.device.1).as_bytes());
        checksum(&mut block);
        block
    }
}

/// Writes the checksum of a header block into it.
pub fn checksum(block: &mut [u8]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Tar {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes as they are.
    #[must_use]
    pub fn raw(mut self, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(data);
        self
    }

    /// A header and a body, padded.
    #[must_use]
    pub fn entry(self, header: &Header, body: &[u8]) -> Self {
        let mut all = self.raw(&header.block()).raw(body);
        all.bytes.resize(all.bytes.len().next_multiple_of(512), 0);
        all
    }

    /// A directory.
    #[must_use]
    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(
            &Header {
                mode,
                ..Header::new(b'5', name)
            },
            b"",
        )
    }

    /// A file.
    #[must_use]
    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(
            &Header {
                size: content.len() as u64,
                ..Header::new(b'0', name)
            },
            content,
        )
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, target: &str, name: &str) -> Self {
        self.entry(
            &Header {
                link: target.into(),
                ..Header::new(b'2', name)
            },
            b"",
        )
    }

    /// A hard link.
    #[must_use]
    pub fn link(self, target: &str, name: &str) -> Self {
        self.entry(
            &Header {
                link: target.into(),
                ..Header::new(b'1', name)
            },
            b"",
        )
    }

    /// PAX records for the next entry.
    #[must_use]
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.entry(
            &Header {
                size: body.len() as u64,
                ..Header::new(b'x', "pax")
            },
            &body,
        )
    }

    /// The archive with its end.
    pub fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }

    /// The archive without its end.
    pub fn cut(self) -> Vec<u8> {
        self.bytes
    }
}

/// `data` as one gzip member.
pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that hardly compress.
pub fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A generator for moments. Its seed is printed, and taken from `IMAGE_SEED`.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// From the clock, if nothing else is asked for.
    pub fn new() -> Self {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let given = std::env::var("IMAGE_SEED").ok();
        let seed = given.and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| since.as_secs() << 30 | u64::from(since.subsec_nanos()));
        println!("IMAGE_SEED={seed}");
        Self(seed | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % bound
    }

    /// A time below `bound`.
    pub fn moment(&mut self, bound: std::time::Duration) -> std::time::Duration {
        bound.mul_f64(self.below(10_000) as f64 / 10_000.0)
    }
}

impl Default for Dice {
    fn default() -> Self {
        Self::new()
    }
}

/// The documents and blobs of one image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Everything by digest: config, layers, manifest.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// Digest of the manifest.
    pub manifest: String,
    /// Digests of the layers, bottom first.
    pub layers: Vec<String>,
}

impl Image {
    /// An image of gzip layers made of these archives, bottom first.
    pub fn new(archives: &[Vec<u8>]) -> Self {
        let layers = archives
            .iter()
            .map(|tar| (gzip(tar), digest(tar)))
            .collect::<Vec<_>>();
        Self::of(&layers, &json!({"Cmd": ["/bin/true"]}))
    }

    /// An image of these blobs with their DiffIDs, as stated.
    pub fn of(layers: &[(Vec<u8>, String)], config: &Value) -> Self {
        let diff_ids = layers
            .iter()
            .map(|(_, diff_id)| diff_id.clone())
            .collect::<Vec<_>>();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Self::with_config(layers, config.to_string().into_bytes())
    }

    /// An image of these blobs with any config.
    pub fn with_config(layers: &[(Vec<u8>, String)], config: Vec<u8>) -> Self {
        let mut blobs = BTreeMap::new();
        let mut put = |data: Vec<u8>, kind: &str| {
            let (digest, size) = (digest(&data), data.len());
            blobs.insert(digest.clone(), data);
            json!({"mediaType": kind, "digest": digest, "size": size})
        };
        let config = put(config, "application/vnd.oci.image.config.v1+json");
        let layers = layers
            .iter()
            .map(|(blob, _)| put(blob.clone(), "application/vnd.oci.image.layer.v1.tar+gzip"))
            .collect::<Vec<_>>();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers,
        });
        let data = manifest.to_string().into_bytes();
        let manifest = digest(&data);
        blobs.insert(manifest.clone(), data);
        let layers = layers
            .iter()
            .map(|l| l["digest"].as_str().unwrap().to_owned())
            .collect();
        Self {
            blobs,
            manifest,
            layers,
        }
    }

    /// Writes an OCI layout with this image into a new directory.
    pub fn write_layout(&self, dir: &Path) {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for (digest, data) in &self.blobs {
            fs::write(blobs.join(digest.trim_start_matches("sha256:")), data).unwrap();
        }
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": self.manifest, "size": self.blobs[&self.manifest].len(),
            "annotations": {"org.opencontainers.image.ref.name": "image"},
        }]});
        fs::write(dir.join("index.json"), index.to_string()).unwrap();
    }
}

/// A store in a directory that goes away with it.
#[derive(Debug)]
pub struct Bed {
    dir: PathBuf,
    _owned: Option<tempfile::TempDir>,
}

impl Default for Bed {
    fn default() -> Self {
        Self::new()
    }
}

impl Bed {
    /// An empty store.
    pub fn new() -> Self {
        let owned = tempfile::tempdir().unwrap();
        Self {
            dir: owned.path().to_owned(),
            _owned: Some(owned),
        }
    }

    /// A store in a directory that is the caller's.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            _owned: None,
        }
    }

    /// A path beside the store.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The program with the store and no configuration of the machine's.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(image_program());
        command
            .arg("--root")
            .arg(self.path("store"))
            .arg("--hosts-dir")
            .arg(self.path("certs.d"));
        command
            .arg("--registries-conf")
            .arg(self.path("registries.conf"));
        command
            .arg("--authfile")
            .arg(self.path("auth.json"))
            .args(arguments);
        command
    }

    /// Runs the program.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the program, which has to succeed; returns what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the program, which has to fail with one line; returns it.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        let last = errors.lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("ocirun-image: "), "{errors}");
        last
    }

    /// Imports an image under the name `t/image` and unpacks it to `rootfs`.
    pub fn unpack(&self, image: &Image) -> Result<PathBuf, String> {
        let layout = self.path("layout");
        image.write_layout(&layout);
        let imported = self.run(&["import", layout.to_str().unwrap(), "t.io/image:1"]);
        fs::remove_dir_all(&layout).unwrap();
        if !imported.status.success() {
            return Err(String::from_utf8_lossy(&imported.stderr).into_owned());
        }
        let rootfs = self.path("rootfs");
        self.ok(&["unpack", "t.io/image:1", rootfs.to_str().unwrap()]);
        Ok(rootfs)
    }

    /// Nothing is damaged, and after a full collection nothing is unfinished or unnamed.
    pub fn assert_sound(&self) {
        self.ok(&["fsck"]);
        self.ok(&["gc", "--all"]);
        let count =
            |name: &str| fs::read_dir(self.path("store").join(name)).unwrap().count() as u64;
        let usage: Value = serde_json::from_str(&self.ok(&["--json", "df"])).unwrap();
        assert_eq!(usage["layers"][0].as_u64(), Some(count("layers")));
        assert_eq!(usage["blobs"][0].as_u64(), Some(count("blobs")));
        assert_eq!((count("staging"), count("run")), (0, 0));
        assert_eq!(usage["reclaimable"].as_u64(), Some(0));
    }
}

/// Everything below a directory: path, type, mode, owner, size, times of change, link group, target, attributes, content.
pub fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first_names: BTreeMap<u64, String> = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut line = format!(
            "{name} {:o} {}:{} {}.{}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        let attributes = xattrs(&path);
        if meta.is_dir() {
            let mut inner = fs::read_dir(&path)
                .unwrap()
                .map(|e| e.unwrap().path())
                .collect::<Vec<_>>();
            inner.sort();
            todo.extend(inner);
        } else {
            let first = first_names
                .entry(meta.ino())
                .or_insert_with(|| name.clone());
            line += &format!(" {} {} {}", meta.size(), meta.rdev(), first);
        }
        if meta.is_symlink() {
            line += &format!(" -> {}", fs::read_link(&path).unwrap().display());
        } else if meta.is_file() {
            line += &format!(" {}", digest(&fs::read(&path).unwrap()));
        }
        lines.push(format!("{line} {attributes:?}"));
    }
    lines.sort();
    lines
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0_u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut all = Vec::new();
    for name in names[..length]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0_u8; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        all.push((
            String::from_utf8_lossy(name).into_owned(),
            value[..length].to_vec(),
        ));
    }
    all.sort();
    all
}

/// What a registry answers to one request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Status, further headers, body.
    Whole(u16, Vec<(String, String)>, Vec<u8>),
    /// A 200 whose body breaks off after so many bytes.
    Cut(Vec<u8>, usize),
    /// A 200 that sends one byte a second.
    Slow(Vec<u8>),
    /// A 200 that never ends.
    Endless,
}

/// One request: method, path with query, headers in lower case.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// A registry on loopback over plain HTTP that answers as it was told, and remembers what it was asked.
#[derive(Debug)]
pub struct FakeRegistry {
    /// `127.0.0.1:port`.
    pub host: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl FakeRegistry {
    /// Starts it; its threads end with the test's process.
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, handler): (_, Arc<Handler>) = (requests.clone(), Arc::new(handler));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, handler) = (seen.clone(), handler.clone());
                std::thread::spawn(move || serve(stream, &seen, &*handler));
            }
        });
        Self { host, requests }
    }

    /// One that serves an image as it should, except where `change` has another answer.
    pub fn serving(
        image: &Image,
        change: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let image = image.clone();
        Self::start(move |request| change(request).unwrap_or_else(|| honest(&image, request)))
    }

    /// What it was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// The answer that the specification wants, for pulls.
pub fn honest(image: &Image, request: &Request) -> Answer {
    let last = request
        .path
        .split('?')
        .next()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    if request.path == "/v2/" {
        return Answer::Whole(200, Vec::new(), b"{}".to_vec());
    }
    if request.path.contains("/manifests/") {
        let kind = (
            "content-type".to_owned(),
            "application/vnd.oci.image.manifest.v1+json".to_owned(),
        );
        return Answer::Whole(200, vec![kind], image.blobs[&image.manifest].clone());
    }
    let Some(blob) = image.blobs.get(&last) else {
        return Answer::Whole(404, Vec::new(), Vec::new());
    };
    match request.headers.get("range").and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    }) {
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
            Answer::Whole(
                206,
                vec![("content-range".to_owned(), range)],
                blob[from..].to_vec(),
            )
        }
        None => Answer::Whole(200, Vec::new(), blob.clone()),
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, handler: &Handler) {
    let mut data = Vec::new();
    loop {
        while !data.windows(4).any(|w| w == b"\r\n\r\n") {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => data.extend_from_slice(&buffer[..read]),
            }
            // A TLS greeting: this registry speaks plain HTTP only.
            if data[0] == 0x16 {
                return;
            }
        }
        let end = data.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&data[..end]).into_owned();
        data.drain(..end + 4);
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let request = Request {
            method: words.next().unwrap_or_default().to_owned(),
            path: words.next().unwrap_or_default().to_owned(),
            headers: lines
                .filter_map(|l| l.split_once(": "))
                .map(|(k, v)| (k.to_lowercase(), v.to_owned()))
                .collect(),
        };
        seen.lock().unwrap().push(request.clone());
        if !answer(&mut stream, &request, handler(&request)) {
            return;
        }
    }
}

/// Whether the connection can be used on.
fn answer(stream: &mut TcpStream, request: &Request, answer: Answer) -> bool {
    let head = |status: u16, extra: &str, length: Option<usize>| {
        let length = length
            .map(|l| format!("content-length: {l}\r\n"))
            .unwrap_or_default();
        format!("HTTP/1.1 {status} X\r\n{extra}{length}\r\n")
    };
    match answer {
        Answer::Whole(status, headers, body) => {
            let extra = headers
                .iter()
                .map(|(k, v)| format!("{k}: {v}\r\n"))
                .collect::<String>();
            let body = if request.method == "HEAD" {
                Vec::new()
            } else {
                body
            };
            let sent = stream.write_all(head(status, &extra, Some(body.len())).as_bytes());
            sent.and_then(|()| stream.write_all(&body)).is_ok()
        }
        Answer::Cut(body, length) => {
            drop(
                stream
                    .write_all(head(200, "", Some(body.len())).as_bytes())
                    .and_then(|()| stream.write_all(&body[..length])),
            );
            false
        }
        Answer::Slow(body) => {
            drop(stream.write_all(head(200, "", Some(body.len())).as_bytes()));
            for byte in body {
                if stream.write_all(&[byte]).is_err() {
                    return false;
                }
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
            false
        }
        Answer::Endless => {
            drop(stream.write_all(head(200, "connection: close\r\n", None).as_bytes()));
            while stream.write_all(&[7; 65536]).is_ok() {}
            false
        }
    }
}
