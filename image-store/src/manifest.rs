//! Indexes, manifests and configs: parsed under budgets, their types settled, a platform chosen.
//!
//! The bytes stay as they came, because digests are over bytes; these types are only views. See image-spec manifest.md,
//! image-index.md and config.md. The types of the documents themselves are `oci-spec`'s.

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result, invalid, limit};
use crate::limits;
use oci_spec::image as oci;
use std::fmt;
use std::str::FromStr;

/// Media types that are asked for, in order of preference.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// OCI's media type of a manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI's media type of an index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI's media type of a config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI's media type of a gzip layer.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What leads to a blob: type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Media type as written.
    pub media_type: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Their count.
    pub size: u64,
    /// The bytes themselves, where they were embedded and agree with digest and size.
    pub data: Option<Vec<u8>>,
    /// The platform, in an index.
    pub platform: Option<Platform>,
}

impl TryFrom<&oci::Descriptor> for Descriptor {
    type Error = Error;

    fn try_from(from: &oci::Descriptor) -> Result<Self> {
        let digest: Digest = from.digest().to_string().parse()?;
        let data = match from.data() {
            None => None,
            Some(text) => {
                use base64::Engine as _;
                let data = base64::engine::general_purpose::STANDARD
                    .decode(text)
                    .map_err(|e| invalid(format!("embedded data of {digest}: {e}")))?;
                if data.len() as u64 != from.size() {
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        format!("embedded data of {digest} has a wrong size"),
                    ));
                }
                digest.verify(&data).map_err(|e| e.at("embedded data"))?;
                Some(data)
            }
        };
        let platform = from.platform().as_ref().map(|p| Platform {
            os: p.os().to_string(),
            architecture: p.architecture().to_string(),
            variant: p.variant().clone(),
        });
        Ok(Self {
            media_type: from.media_type().to_string(),
            digest,
            size: from.size(),
            data,
            platform,
        })
    }
}

/// An operating system and processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// As Go names it: `amd64`, `arm64`.
    pub architecture: String,
    /// `v7`, `v8` and the like.
    pub variant: Option<String>,
}

impl Platform {
    /// The platform that this program runs on.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// How well an image for `other` runs here: nothing if not at all, lower is better.
    fn distance(&self, other: &Self) -> Option<u32> {
        if self.os != other.os || self.architecture != other.architecture {
            return None;
        }
        let level = |variant: &Option<String>| -> Option<u32> {
            let written = variant.as_deref().filter(|v| !v.is_empty());
            let default = match self.architecture.as_str() {
                "arm64" => "v8",
                "arm" => "v7",
                "amd64" => "v1",
                _ => "v0",
            };
            written
                .unwrap_or(default)
                .strip_prefix('v')?
                .split('.')
                .next()?
                .parse()
                .ok()
        };
        level(&self.variant)?.checked_sub(level(&other.variant)?)
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split('/').collect::<Vec<_>>();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => {
                return Err(invalid(format!(
                    "platform {text:?} is not os/architecture[/variant]"
                )));
            }
        };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(invalid(format!("platform {text:?} has an empty part")));
        }
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// A list of manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its entries.
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// The entry that suits a platform best.
    pub fn choose(&self, wanted: &Platform) -> Result<&Descriptor> {
        let distance = |descriptor: &&Descriptor| {
            descriptor
                .platform
                .as_ref()
                .map_or(Some(u32::MAX), |platform| wanted.distance(platform))
        };
        self.manifests
            .iter()
            .filter(|descriptor| distance(descriptor).is_some())
            .min_by_key(|descriptor| distance(descriptor))
            .ok_or_else(|| {
                let offered = self
                    .manifests
                    .iter()
                    .filter_map(|d| d.platform.as_ref())
                    .map(Platform::to_string);
                let offered = offered.collect::<Vec<_>>().join(", ");
                Error::new(
                    ErrorKind::NotFound,
                    format!("no manifest for {wanted}; there is {offered}"),
                )
            })
    }
}

/// The parts of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Leads to the config.
    pub config: Descriptor,
    /// Lead to the layers, bottom first.
    pub layers: Vec<Descriptor>,
}

/// What a manifest request answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A list to choose from.
    Index(Index),
    /// An image or an artifact.
    Manifest(Manifest),
}

/// The media type that a document has, from what was promised and what it says itself; all must agree.
pub fn media_type(data: &[u8], promised: Option<&str>) -> Result<String> {
    let value = json(data)?;
    let object = value
        .as_object()
        .ok_or_else(|| invalid("manifest is not a JSON object"))?;
    let has = |key: &str| object.contains_key(key);
    if (has("layers") || has("config")) && (has("manifests") || has("fsLayers")) {
        return Err(invalid("document is a manifest and an index at once"));
    }
    if has("fsLayers")
        || object
            .get("schemaVersion")
            .and_then(serde_json::Value::as_u64)
            == Some(1)
    {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "manifest schema 1 is not served any more",
        ));
    }
    let inside = object.get("mediaType").and_then(serde_json::Value::as_str);
    let promised = promised.map(|p| p.split(';').next().unwrap_or(p).trim());
    let found = match (inside, promised) {
        (Some(inside), Some(promised)) if inside != promised => {
            return Err(invalid(format!(
                "document says it is {inside:?}, but was promised as {promised:?}"
            )));
        }
        (Some(inside), _) => inside,
        (None, Some(promised)) => promised,
        (None, None) if has("manifests") => OCI_INDEX,
        (None, None) => OCI_MANIFEST,
    };
    match found {
        OCI_MANIFEST | DOCKER_MANIFEST if !has("manifests") => Ok(found.to_owned()),
        OCI_INDEX | DOCKER_LIST if !has("layers") => Ok(found.to_owned()),
        _ => Err(invalid(format!(
            "media type {found:?} does not fit the document"
        ))),
    }
}

/// Parses a manifest or an index.
pub fn parse(data: &[u8], promised: Option<&str>) -> Result<Document> {
    let found = media_type(data, promised)?;
    let broken = |e: serde_json::Error| invalid(format!("manifest: {e}"));
    if matches!(found.as_str(), OCI_INDEX | DOCKER_LIST) {
        let index: oci::ImageIndex = serde_json::from_slice(data).map_err(broken)?;
        if index.manifests().len() > limits::INDEX_ENTRIES {
            return Err(limit(format!(
                "index has more than {} entries",
                limits::INDEX_ENTRIES
            )));
        }
        let manifests = index
            .manifests()
            .iter()
            .map(Descriptor::try_from)
            .collect::<Result<_>>()?;
        return Ok(Document::Index(Index { manifests }));
    }
    let manifest: oci::ImageManifest = serde_json::from_slice(data).map_err(broken)?;
    if manifest.layers().len() > limits::LAYERS {
        return Err(limit(format!(
            "image has more than {} layers",
            limits::LAYERS
        )));
    }
    let config = Descriptor::try_from(manifest.config())?;
    if config.size > limits::DOCUMENT {
        return Err(limit(format!(
            "config has {} bytes, at most {} are accepted",
            config.size,
            limits::DOCUMENT
        )));
    }
    let layers = manifest
        .layers()
        .iter()
        .map(Descriptor::try_from)
        .collect::<Result<_>>()?;
    Ok(Document::Manifest(Manifest { config, layers }))
}

/// Whether a media type is a file system layer's. How it is compressed, its first bytes say.
pub fn is_layer(media_type: &str) -> bool {
    let oci = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    ];
    let docker = [
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    let rest = oci
        .iter()
        .chain(&docker)
        .find_map(|prefix| media_type.strip_prefix(prefix));
    matches!(rest, Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd"))
}

/// An image's config with the ids of its unpacked layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What the image says of itself.
    pub image: oci::ImageConfiguration,
    /// Digest of each unpacked layer, bottom first.
    pub diff_ids: Vec<Digest>,
}

/// Parses a config that belongs to `layers` layers.
pub fn parse_config(data: &[u8], layers: usize) -> Result<Config> {
    json(data)?;
    let image: oci::ImageConfiguration =
        serde_json::from_slice(data).map_err(|e| invalid(format!("config: {e}")))?;
    if image.rootfs().typ() != "layers" {
        return Err(invalid(format!(
            "config: rootfs type {:?} is not \"layers\"",
            image.rootfs().typ()
        )));
    }
    let diff_ids = image
        .rootfs()
        .diff_ids()
        .iter()
        .map(|text| text.parse())
        .collect::<Result<Vec<Digest>>>()?;
    if diff_ids.len() != layers {
        return Err(invalid(format!(
            "config names {} layers, the manifest {layers}",
            diff_ids.len()
        )));
    }
    Ok(Config { image, diff_ids })
}

/// Parses JSON after its size and depth were checked.
pub fn json(data: &[u8]) -> Result<serde_json::Value> {
    if data.len() as u64 > limits::DOCUMENT {
        return Err(limit(format!(
            "document is larger than {} bytes",
            limits::DOCUMENT
        )));
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in data {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limits::JSON_DEPTH {
            return Err(limit(format!(
                "document nests deeper than {}",
                limits::JSON_DEPTH
            )));
        }
    }
    serde_json::from_slice(data).map_err(|e| invalid(format!("document: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(kind: &str) -> String {
        format!(
            r#"{{"mediaType":"{kind}","digest":"{}","size":1}}"#,
            Digest::of(b"x")
        )
    }

    fn manifest(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,{extra}"config":{},"layers":[]}}"#,
            descriptor(OCI_CONFIG)
        )
    }

    #[test]
    fn documents_that_are_two_things_are_refused() {
        let confused = manifest(r#""manifests":[],"#);
        for (data, promised, fits) in [
            (manifest(""), None, true),
            (manifest(""), Some(OCI_MANIFEST), true),
            (
                manifest(""),
                Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
                true,
            ),
            (manifest(""), Some(OCI_INDEX), false),
            (manifest(""), Some("text/plain"), false),
            (
                manifest(&format!(r#""mediaType":"{OCI_MANIFEST}","#)),
                Some(DOCKER_MANIFEST),
                false,
            ),
            (confused, Some(OCI_MANIFEST), false),
            (
                r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
                None,
                false,
            ),
            ("[]".to_owned(), None, false),
            ("{".to_owned(), None, false),
        ] {
            assert_eq!(
                parse(data.as_bytes(), promised).is_ok(),
                fits,
                "{data} as {promised:?}"
            );
        }
    }

    #[test]
    fn budgets_of_documents() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        assert_eq!(json(deep.as_bytes()).unwrap_err().kind(), ErrorKind::Limit);
        let text = format!("\"{}\"", "[".repeat(100));
        assert!(json(text.as_bytes()).is_ok());
        let layer = descriptor(OCI_LAYER_GZIP);
        let many = vec![layer.as_str(); limits::LAYERS + 1].join(",");
        let data = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{many}]}}"#,
            descriptor(OCI_CONFIG)
        );
        assert_eq!(
            parse(data.as_bytes(), None).unwrap_err().kind(),
            ErrorKind::Limit
        );
        let many = vec![descriptor(OCI_MANIFEST); limits::INDEX_ENTRIES + 1].join(",");
        let data = format!(r#"{{"schemaVersion":2,"manifests":[{many}]}}"#);
        assert_eq!(
            parse(data.as_bytes(), None).unwrap_err().kind(),
            ErrorKind::Limit
        );
        assert_eq!(
            json(&vec![b' '; (4 << 20) + 1]).unwrap_err().kind(),
            ErrorKind::Limit
        );
    }

    #[test]
    fn embedded_data_is_checked() {
        let with = |data: &str, size: u32| {
            format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"{OCI_CONFIG}","digest":"{}","size":{size},"data":"{data}"}},"layers":[]}}"#,
                Digest::of(b"x")
            )
        };
        assert!(parse(with("eA==", 1).as_bytes(), None).is_ok());
        assert!(parse(with("eQ==", 1).as_bytes(), None).is_err());
        assert!(parse(with("eA==", 2).as_bytes(), None).is_err());
        assert!(parse(with("?", 1).as_bytes(), None).is_err());
    }

    #[test]
    fn configs_and_layers_must_agree() {
        let id = Digest::of(b"x");
        let with = |kind: &str| {
            format!(
                r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"{kind}","diff_ids":["{id}"]}}}}"#
            )
        };
        assert!(parse_config(with("layers").as_bytes(), 1).is_ok());
        assert!(parse_config(with("layers").as_bytes(), 2).is_err());
        assert!(parse_config(with("other").as_bytes(), 1).is_err());
    }

    #[test]
    fn the_nearest_platform_is_chosen() {
        let wanted: Platform = "linux/arm/v7".parse().unwrap();
        let of = |text: &str| Descriptor {
            media_type: OCI_MANIFEST.to_owned(),
            digest: Digest::of(text.as_bytes()),
            size: 1,
            data: None,
            platform: Some(text.parse().unwrap()),
        };
        let index = Index {
            manifests: [
                "linux/amd64",
                "linux/arm/v6",
                "linux/arm/v8",
                "linux/arm/v7",
            ]
            .map(of)
            .into(),
        };
        assert_eq!(index.choose(&wanted).unwrap(), &index.manifests[3]);
        assert_eq!(
            index.choose(&"linux/arm/v6".parse().unwrap()).unwrap(),
            &index.manifests[1]
        );
        assert!(index.choose(&"linux/s390x".parse().unwrap()).is_err());
    }

    #[test]
    fn layer_types() {
        for (media_type, is) in [
            (OCI_LAYER_GZIP, true),
            ("application/vnd.oci.image.layer.v1.tar", true),
            ("application/vnd.oci.image.layer.v1.tar+zstd", true),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", true),
            ("application/vnd.oci.image.layer.v1.tar+encrypted", false),
            ("application/octet-stream", false),
        ] {
            assert_eq!(is_layer(media_type), is, "{media_type}");
        }
    }
}
