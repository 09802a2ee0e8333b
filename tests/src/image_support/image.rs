//! Images made of archives.

use super::{Header, Tar, digest, gzip};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

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

/// Two small layers.
pub fn small() -> Image {
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

/// An image of one static program at `/bin/NAME`, with these arguments.
pub fn program(file: &Path, arguments: &[&str]) -> Image {
    let content = fs::read(file).unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    let header = Header {
        mode: 0o755,
        size: content.len() as u64,
        ..Header::new(b'0', format!("bin/{name}"))
    };
    let tar = Tar::new().dir("bin", 0o755).entry(&header, &content);
    let tar = ["etc", "proc", "sys", "dev"]
        .into_iter()
        .fold(tar, |tar, dir| tar.dir(dir, 0o755))
        .file("etc/motd", b"hello\n")
        .end();
    let entrypoint = format!("/bin/{name}");
    Image::of(
        &[(gzip(&tar), digest(&tar))],
        &json!({"Entrypoint": [entrypoint], "Cmd": arguments, "Env": ["A=b"], "WorkingDir": "/etc"}),
    )
}
