//! Configurations of networks: found, read and checked.
//!
//! The directory is looked at before each use, which costs less than one plugin's start: there is no event that could
//! be missed, as when the directory itself is exchanged, and nothing to be watched.

use crate::error::{Context, Error, Kind, Result};
use serde_json::{Map, Value, json};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Versions of the specification that are spoken, the oldest first.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Largest configuration that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Most plugins of one network.
const MAX_PLUGINS: usize = 64;

/// A version of the specification, as its place in [`VERSIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(usize);

impl Version {
    /// The first with CHECK, and with `prevResult` at DEL.
    pub const CHECK: Self = Self(2);
    /// The first with STATUS and GC.
    pub const STATUS: Self = Self(4);

    fn of(text: &str) -> Option<Self> {
        VERSIONS.iter().position(|known| *known == text).map(Self)
    }

    /// As it is written.
    #[must_use]
    pub fn text(self) -> &'static str {
        VERSIONS[self.0]
    }
}

/// A network: plugins that are executed one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The version that its plugins are spoken to in.
    pub version: Version,
    /// Whether CHECK is not to be called.
    pub disable_check: bool,
    /// Whether GC is not to be called.
    pub disable_gc: bool,
    /// Its plugins.
    pub plugins: Vec<Plugin>,
}

/// One plugin of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// The name of its program.
    pub program: String,
    /// What it is given at run time, by the names of the conventions.
    pub capabilities: Vec<String>,
    /// Its configuration as written.
    pub config: Map<String, Value>,
}

impl Network {
    /// Reads a list of plugins, or the configuration of a single one.
    ///
    /// # Errors
    /// `Invalid` with the key.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        let Value::Object(mut top) = value else {
            return Err(bad("is not a JSON object"));
        };
        let version = version(&top)?;
        let name = text(&top, "name")?;
        let plugins = match top.remove("plugins") {
            None => vec![Plugin::parse(top.clone())?],
            Some(Value::Array(all)) => all
                .into_iter()
                .map(|one| match one {
                    Value::Object(one) => Plugin::parse(one),
                    _ => Err(bad("plugins: one is not an object")),
                })
                .collect::<Result<_>>()?,
            Some(_) => return Err(bad("plugins: is not an array")),
        };
        let network = Self {
            name,
            version,
            disable_check: flag(&top, "disableCheck")?,
            disable_gc: flag(&top, "disableGC")?,
            plugins,
        };
        if !is_word(&network.name) {
            let text = "is not made of letters, digits, '.', '_' and '-', or begins with none of the first two";
            return Err(bad(format!("name: {:?} {text}", network.name)));
        }
        Ok(network)
    }

    /// The whole list as JSON: what [`Self::parse`] reads.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let plugins = self.plugins.iter().map(|plugin| &plugin.config);
        let list = json!({
            "cniVersion": self.version.text(),
            "name": self.name,
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "plugins": plugins.collect::<Vec<_>>(),
        });
        list.to_string().into_bytes()
    }

    /// Whether a plugin takes what is called so.
    #[must_use]
    pub fn takes(&self, capability: &str) -> bool {
        let mut plugins = self.plugins.iter();
        plugins.any(|plugin| plugin.capabilities.iter().any(|c| c == capability))
    }
}

impl Plugin {
    fn parse(config: Map<String, Value>) -> Result<Self> {
        let program = text(&config, "type")?;
        if !is_word(&program) {
            return Err(bad(format!(
                "type: {program:?} is not the name of a program"
            )));
        }
        let capabilities = match config.get("capabilities") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Object(all)) => all
                .iter()
                .filter(|(_, wanted)| **wanted == Value::Bool(true))
                .map(|(name, _)| name.clone())
                .collect(),
            Some(_) => return Err(bad("capabilities: is not an object")),
        };
        Ok(Self {
            program,
            capabilities,
            config,
        })
    }
}

/// The first network of a directory, in the order of the files' names.
///
/// # Errors
/// `Unavailable` where there is none, with what is wrong with the files that are there.
pub fn first(dir: &Path) -> Result<Network> {
    let mut wrong = String::new();
    for file in files(dir, &["conf", "conflist", "json"])? {
        match load(dir, &file) {
            Ok(network) => return Ok(network),
            Err(error) => wrong += &format!("; {}: {error}", file.display()),
        }
    }
    let text = format!("no configuration of a network in {}{wrong}", dir.display());
    Err(Error::new(Kind::Unavailable, text))
}

fn load(dir: &Path, file: &Path) -> Result<Network> {
    let bytes = read(file)?;
    let mut network = Network::parse(&bytes)?;
    let top: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    if top.contains_key("plugins") && !flag(&top, "loadOnlyInlinedPlugins")? {
        // Others may add their plugins to the list, as files in a directory of the network's name.
        for file in files(&dir.join(&network.name), &["conf"])? {
            let plugin = serde_json::from_slice(&read(&file)?)
                .map_err(|e| bad(e.to_string()))
                .and_then(Plugin::parse);
            network
                .plugins
                .push(plugin.map_err(|e| e.at(file.display()))?);
        }
    }
    match network.plugins.len() {
        1..=MAX_PLUGINS => Ok(network),
        count => Err(bad(format!(
            "plugins: {count} are not between 1 and {MAX_PLUGINS}"
        ))),
    }
}

/// Files of a directory with one of these extensions, sorted; none where there is no directory.
fn files(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.call(|| format!("read directory {dir:?}"))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.call(|| format!("read directory {dir:?}"))?.path();
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        if extensions.contains(&extension) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .call(|| format!("read {file:?}"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(bad(format!("is larger than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

/// The highest version that both sides know.
fn version(top: &Map<String, Value>) -> Result<Version> {
    let one = top.get("cniVersion").and_then(Value::as_str);
    let more = top.get("cniVersions").and_then(Value::as_array);
    let more = more.into_iter().flatten().filter_map(Value::as_str);
    let named = one.into_iter().chain(more).collect::<Vec<_>>();
    let best = named.iter().filter_map(|text| Version::of(text)).max();
    best.ok_or_else(|| {
        let known = VERSIONS.join(", ");
        match named.as_slice() {
            [] => bad(format!("cniVersion: is not set; known are {known}")),
            named => bad(format!(
                "cniVersion: {} is none of {known}",
                named.join(", ")
            )),
        }
    })
}

fn text(top: &Map<String, Value>, key: &str) -> Result<String> {
    match top.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(bad(format!("{key}: is not set to a text"))),
    }
}

/// libcni takes the words `true` and `false` too.
fn flag(top: &Map<String, Value>, key: &str) -> Result<bool> {
    match top.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
        Some(_) => Err(bad(format!("{key}: is neither true nor false"))),
    }
}

fn is_word(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(is_plain) && text.chars().all(|c| is_plain(c) || "._-".contains(c))
}

fn bad(text: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_single_plugins() {
        let list = br#"{"cniVersion": "0.4.0", "cniVersions": ["1.0.0", "9.0.0"], "name": "n", "disableCheck": "true",
            "plugins": [{"type": "bridge", "mtu": 9}, {"type": "portmap", "capabilities": {"portMappings": true, "x": false}}]}"#;
        let network = Network::parse(list).unwrap();
        assert_eq!(
            (network.name.as_str(), network.version.text()),
            ("n", "1.0.0")
        );
        assert!(network.disable_check && !network.disable_gc);
        assert!(network.takes("portMappings") && !network.takes("x"));
        assert_eq!(network.plugins[0].config["mtu"], 9);
        assert_eq!(Network::parse(&network.to_json()).unwrap(), network);
        let one =
            Network::parse(br#"{"cniVersion": "0.3.1", "name": "n", "type": "ptp"}"#).unwrap();
        assert_eq!(one.plugins[0].program, "ptp");
        assert!(one.version < Version::CHECK);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("", "EOF"),
            ("[]", "is not a JSON object"),
            ("{}", "cniVersion: is not set"),
            (r#"{"cniVersion": "0.2.0"}"#, "cniVersion: 0.2.0 is none of"),
            (
                r#"{"cniVersion": "1.0.0", "type": "x"}"#,
                "name: is not set",
            ),
            (
                r#"{"cniVersion": "1.0.0", "name": "../x", "type": "x"}"#,
                "name: \"../x\"",
            ),
            (
                r#"{"cniVersion": "1.0.0", "name": "n"}"#,
                "type: is not set",
            ),
            (
                r#"{"cniVersion": "1.0.0", "name": "n", "type": "../sh"}"#,
                "type: \"../sh\"",
            ),
            (
                r#"{"cniVersion": "1.0.0", "name": "n", "plugins": {}}"#,
                "plugins: is not an array",
            ),
            (
                r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [3]}"#,
                "one is not an object",
            ),
            (
                r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [], "disableGC": 3}"#,
                "disableGC: is neither",
            ),
        ] {
            let error = Network::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_first_that_is_good() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let error = first(path).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(first(&path.join("none")).is_err());
        let list = |name: &str| {
            format!(r#"{{"cniVersion": "1.1.0", "name": {name:?}, "plugins": [{{"type": "a"}}]}}"#)
        };
        std::fs::write(path.join("00-wrong.conf"), "{").unwrap();
        std::fs::write(path.join("05-other.txt"), list("other")).unwrap();
        let error = first(path).unwrap_err().to_string();
        assert!(error.contains("00-wrong.conf: EOF"), "{error}");
        std::fs::write(path.join("20-b.conflist"), list("b")).unwrap();
        std::fs::write(path.join("10-a.json"), list("a")).unwrap();
        assert_eq!(first(path).unwrap().name, "a");
        std::fs::create_dir(path.join("a")).unwrap();
        std::fs::write(path.join("a/x.conf"), r#"{"type": "late"}"#).unwrap();
        let plugins = first(path).unwrap().plugins;
        let programs = plugins.iter().map(|p| p.program.as_str());
        assert_eq!(programs.collect::<Vec<_>>(), ["a", "late"]);
    }
}
