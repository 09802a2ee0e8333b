//! Where a registry really is: `hosts.toml` as containerd reads it, then `registries.conf` as containers/image reads it.
//!
//! Both are read at each use, so a change needs no restart.

use crate::error::{At, Context, Result, invalid};
use crate::reference::Reference;
use http::{HeaderName, HeaderValue, Uri};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// How an endpoint is spoken to securely.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Tls {
    /// Certificates believed beside the system's.
    pub ca: Vec<PathBuf>,
    /// Own certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether any certificate is believed.
    pub skip_verify: bool,
}

/// What an endpoint may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Fetching by digest.
    Pull,
    /// Turning a tag into a digest.
    Resolve,
    /// Uploading.
    Push,
}

/// One server for one repository.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `https://host:port/v2` and perhaps a path, without a slash at the end.
    pub base: String,
    /// Repository path there.
    pub repository: String,
    /// What it may be used for.
    pub uses: Vec<Use>,
    /// How TLS is done.
    pub tls: Tls,
    /// Headers that each request gets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The registry that is mirrored, as a mirror is told by `ns=`.
    pub namespace: Option<String>,
}

impl Endpoint {
    /// The address of a path below the repository.
    pub fn url(&self, path: &str) -> Result<Uri> {
        let mut text = format!("{}/{}/{path}", self.base, self.repository);
        if let Some(namespace) = &self.namespace {
            text.push(if text.contains('?') { '&' } else { '?' });
            text.push_str("ns=");
            text.push_str(namespace);
        }
        text.parse()
            .map_err(|_| invalid(format!("{text:?} is no address")))
    }

    /// Host and port.
    pub fn authority(&self) -> String {
        let rest = self
            .base
            .split_once("://")
            .map_or(self.base.as_str(), |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest).to_owned()
    }
}

/// Where the configuration is.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Directories with one directory a host, as containerd's `certs.d`.
    pub certs: Vec<PathBuf>,
    /// The file in the form of containers-registries.conf(5).
    pub registries: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        let certs = [
            "/etc/ocirun/certs.d",
            "/etc/containerd/certs.d",
            "/etc/docker/certs.d",
        ];
        Self {
            certs: certs.map(PathBuf::from).into(),
            registries: "/etc/containers/registries.conf".into(),
        }
    }
}

const ALL: [Use; 3] = [Use::Pull, Use::Resolve, Use::Push];

impl Sources {
    /// The endpoints for a reference, in the order in which they are tried; the registry itself comes last.
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let host = &reference.host;
        for certs in &self.certs {
            let underscored = host.replace(':', "_");
            for name in [
                host.as_str(),
                &format!("{underscored}_"),
                &underscored,
                "_default",
            ] {
                let dir = certs.join(name);
                let file = dir.join("hosts.toml");
                if file.exists() {
                    return hosts_toml(&file, reference).at(|| format!("{file:?}"));
                }
                if dir.is_dir() && name != "_default" {
                    return Ok(own(reference, docker_certs(&dir)?));
                }
            }
        }
        if self.registries.exists() {
            let text = std::fs::read_to_string(&self.registries)
                .call(|| format!("read {:?}", self.registries))?;
            if let Some(found) =
                registries_conf(&text, reference).at(|| format!("{:?}", self.registries))?
            {
                return Ok(found);
            }
        }
        Ok(own(reference, Tls::default()))
    }
}

fn server_of(host: &str) -> &str {
    if host == "docker.io" {
        "registry-1.docker.io"
    } else {
        host
    }
}

fn is_loopback_host(host: &str) -> bool {
    format!("http://{host}/")
        .parse::<Uri>()
        .is_ok_and(|uri| super::http::is_loopback(&uri))
}

/// The registry itself: over TLS, and on loopback also without.
fn own(reference: &Reference, tls: Tls) -> Vec<Endpoint> {
    let server = server_of(&reference.host);
    let schemes: &[&str] = if is_loopback_host(server) {
        &["https", "http"]
    } else {
        &["https"]
    };
    let endpoint = |scheme: &&str| {
        plain(
            &format!("{scheme}://{server}/v2"),
            &reference.repository,
            tls.clone(),
        )
    };
    schemes.iter().map(endpoint).collect()
}

fn plain(base: &str, repository: &str, tls: Tls) -> Endpoint {
    Endpoint {
        base: base.to_owned(),
        repository: repository.to_owned(),
        uses: ALL.to_vec(),
        tls,
        headers: Vec::new(),
        namespace: None,
    }
}

/// Docker's older form: `*.crt` are CAs, `*.cert` with `*.key` are client certificates.
fn docker_certs(dir: &Path) -> Result<Tls> {
    let mut tls = Tls::default();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).call(|| format!("read {dir:?}"))? {
        paths.push(entry.call(|| format!("read {dir:?}"))?.path());
    }
    paths.sort();
    for path in paths {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => tls.ca.push(path),
            Some("cert") => tls.client = Some((path.clone(), path.with_extension("key"))),
            _ => {}
        }
    }
    Ok(tls)
}

fn hosts_toml(file: &Path, reference: &Reference) -> Result<Vec<Endpoint>> {
    let text = std::fs::read_to_string(file).call(|| "read")?;
    let table: Table = text
        .parse()
        .map_err(|e: toml::de::Error| invalid(e.message().to_owned()))?;
    let dir = file.parent().unwrap_or_else(|| Path::new("/"));
    let mut endpoints = Vec::new();
    if let Some(hosts) = table.get("host") {
        let hosts = hosts
            .as_table()
            .ok_or_else(|| invalid("host is not a table"))?;
        for (address, settings) in hosts {
            let settings = settings
                .as_table()
                .ok_or_else(|| invalid(format!("host {address:?} is not a table")))?;
            let mut endpoint = configured(address, settings, dir, reference)?;
            if endpoint.authority() != server_of(&reference.host) {
                endpoint.namespace = Some(reference.host.clone());
            }
            endpoints.push(endpoint);
        }
    }
    match table.get("server").map(|server| (server.as_str(), server)) {
        Some((Some(server), _)) => endpoints.push(configured(server, &table, dir, reference)?),
        Some((None, _)) => return Err(invalid("server is not a string")),
        None => {
            let fallback = own(reference, Tls::default()).into_iter().map(|endpoint| {
                configured(
                    endpoint.base.trim_end_matches("/v2"),
                    &table,
                    dir,
                    reference,
                )
            });
            endpoints.extend(fallback.collect::<Result<Vec<_>>>()?);
        }
    }
    Ok(endpoints)
}

fn configured(
    address: &str,
    settings: &Table,
    dir: &Path,
    reference: &Reference,
) -> Result<Endpoint> {
    let address = if address.contains("://") {
        address.to_owned()
    } else {
        format!("https://{address}")
    };
    let uri: Uri = address
        .parse()
        .map_err(|_| invalid(format!("{address:?} is no address")))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(invalid(format!("{address:?} is neither http nor https")));
    }
    let address = address.trim_end_matches('/');
    let keeps_path = flag(settings, "override_path")?;
    let base = if keeps_path || address.ends_with("/v2") {
        address.to_owned()
    } else {
        format!("{address}/v2")
    };
    let base = if server_is_docker(&uri) {
        base.replace("://docker.io", "://registry-1.docker.io")
    } else {
        base
    };
    let path = |text: &str| {
        if text.starts_with('/') {
            PathBuf::from(text)
        } else {
            dir.join(text)
        }
    };
    let tls = Tls {
        ca: strings(settings, "ca")?
            .iter()
            .map(|text| path(text))
            .collect(),
        client: client(settings, &path)?,
        skip_verify: flag(settings, "skip_verify")?,
    };
    let uses = match settings.get("capabilities") {
        None => ALL.to_vec(),
        Some(_) => strings(settings, "capabilities")?
            .iter()
            .map(|name| match name.as_str() {
                "pull" => Ok(Use::Pull),
                "resolve" => Ok(Use::Resolve),
                "push" => Ok(Use::Push),
                other => Err(invalid(format!("capability {other:?} is unknown"))),
            })
            .collect::<Result<_>>()?,
    };
    let mut headers = Vec::new();
    if let Some(Value::Table(table)) = settings.get("header") {
        for name in table.keys() {
            for value in strings(table, name)? {
                let bad = || invalid(format!("header {name:?} is malformed"));
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
                headers.push((name, HeaderValue::from_str(&value).map_err(|_| bad())?));
            }
        }
    }
    Ok(Endpoint {
        base,
        repository: reference.repository.clone(),
        uses,
        tls,
        headers,
        namespace: None,
    })
}

fn server_is_docker(uri: &Uri) -> bool {
    uri.host() == Some("docker.io")
}

fn flag(table: &Table, name: &str) -> Result<bool> {
    match table.get(name) {
        None => Ok(false),
        Some(Value::Boolean(set)) => Ok(*set),
        Some(_) => Err(invalid(format!("{name} is not true or false"))),
    }
}

/// A string or a list of strings.
fn strings(table: &Table, name: &str) -> Result<Vec<String>> {
    let bad = || invalid(format!("{name} is not a string or a list of strings"));
    match table.get(name) {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(many)) => many
            .iter()
            .map(|value| value.as_str().map(str::to_owned).ok_or_else(bad))
            .collect(),
        Some(_) => Err(bad()),
    }
}

/// One file with both, or a list whose first element is a pair of certificate and key.
fn client(table: &Table, path: &dyn Fn(&str) -> PathBuf) -> Result<Option<(PathBuf, PathBuf)>> {
    let bad = || invalid("client is not a file or a list of certificate and key");
    let pair = match table.get("client") {
        None => return Ok(None),
        Some(Value::String(file)) => [file.as_str(), file.as_str()],
        Some(Value::Array(list)) => match list.first() {
            Some(Value::Array(pair)) => match &pair[..] {
                [Value::String(certificate), Value::String(key)] if !key.is_empty() => {
                    [certificate.as_str(), key.as_str()]
                }
                [Value::String(file)] | [Value::String(file), Value::String(_)] => {
                    [file.as_str(), file.as_str()]
                }
                _ => return Err(bad()),
            },
            Some(Value::String(file)) => [file.as_str(), file.as_str()],
            _ => return Err(bad()),
        },
        Some(_) => return Err(bad()),
    };
    Ok(Some((path(pair[0]), path(pair[1]))))
}

/// Endpoints by the longest matching prefix, or nothing if no entry matches.
fn registries_conf(text: &str, reference: &Reference) -> Result<Option<Vec<Endpoint>>> {
    let table: Table = text
        .parse()
        .map_err(|e: toml::de::Error| invalid(e.message().to_owned()))?;
    let name = reference.name();
    let empty = Vec::new();
    let registries = match table.get("registry") {
        None => &empty,
        Some(value) => value
            .as_array()
            .ok_or_else(|| invalid("registry is not a list"))?,
    };
    let mut best: Option<(&str, &Table)> = None;
    for registry in registries.iter().filter_map(Value::as_table) {
        let word = |key: &str| registry.get(key).and_then(Value::as_str);
        let prefix = word("prefix")
            .or_else(|| word("location"))
            .ok_or_else(|| invalid("registry without prefix or location"))?;
        if matches_prefix(&name, prefix) && best.is_none_or(|(other, _)| other.len() < prefix.len())
        {
            best = Some((prefix, registry));
        }
    }
    let Some((prefix, registry)) = best else {
        return Ok(None);
    };
    if flag(registry, "blocked")? {
        return Err(crate::Error::new(
            crate::ErrorKind::Unauthorized,
            format!("registry {prefix:?} is blocked"),
        ));
    }
    let mut endpoints = Vec::new();
    let mirrors = registry
        .get("mirror")
        .and_then(Value::as_array)
        .unwrap_or(&empty);
    let digest_only = flag(registry, "mirror-by-digest-only")?;
    for mirror in mirrors.iter().filter_map(Value::as_table) {
        let when = mirror
            .get("pull-from-mirror")
            .and_then(Value::as_str)
            .unwrap_or("all");
        let fits = match (when, reference.digest.is_some()) {
            ("digest-only", is_digest) => is_digest,
            ("tag-only", is_digest) => !is_digest,
            (_, is_digest) => is_digest || !digest_only,
        };
        if fits {
            let location = mirror
                .get("location")
                .and_then(Value::as_str)
                .ok_or_else(|| invalid("mirror has no location"))?;
            endpoints.extend(located(
                location,
                mirror,
                &name,
                prefix,
                &[Use::Pull, Use::Resolve],
            )?);
        }
    }
    let location = registry
        .get("location")
        .and_then(Value::as_str)
        .unwrap_or(prefix);
    endpoints.extend(located(location, registry, &name, prefix, &ALL)?);
    Ok(Some(endpoints))
}

fn matches_prefix(name: &str, prefix: &str) -> bool {
    if let Some(domain) = prefix.strip_prefix("*.") {
        let host = name.split('/').next().unwrap_or(name);
        return host
            .strip_suffix(domain)
            .is_some_and(|rest| rest.ends_with('.'));
    }
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn located(
    location: &str,
    table: &Table,
    name: &str,
    prefix: &str,
    uses: &[Use],
) -> Result<Vec<Endpoint>> {
    let full = match name.strip_prefix(prefix) {
        Some(rest) => format!("{location}{rest}"),
        // A wildcard keeps the name as it is.
        None => name.to_owned(),
    };
    let (host, repository) = full
        .split_once('/')
        .ok_or_else(|| invalid(format!("{full:?} has no repository")))?;
    let insecure = flag(table, "insecure")?;
    let server = server_of(host);
    let tls = Tls {
        skip_verify: insecure,
        ..Tls::default()
    };
    let schemes: &[&str] = if insecure || is_loopback_host(server) {
        &["https", "http"]
    } else {
        &["https"]
    };
    let endpoint = |scheme: &&str| Endpoint {
        uses: uses.to_vec(),
        ..plain(&format!("{scheme}://{server}/v2"), repository, tls.clone())
    };
    Ok(schemes.iter().map(endpoint).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(endpoints: &[Endpoint]) -> Vec<String> {
        endpoints
            .iter()
            .map(|e| format!("{}/{}", e.base, e.repository))
            .collect()
    }

    #[test]
    fn registries_without_configuration() {
        let sources = Sources {
            certs: Vec::new(),
            registries: "/nonexistent".into(),
        };
        for (reference, expected) in [
            (
                "alpine",
                vec!["https://registry-1.docker.io/v2/library/alpine"],
            ),
            ("quay.io/a/b", vec!["https://quay.io/v2/a/b"]),
            (
                "127.0.0.1:5000/a",
                vec!["https://127.0.0.1:5000/v2/a", "http://127.0.0.1:5000/v2/a"],
            ),
            (
                "localhost/a",
                vec!["https://localhost/v2/a", "http://localhost/v2/a"],
            ),
        ] {
            assert_eq!(
                bases(&sources.endpoints(&reference.parse().unwrap()).unwrap()),
                expected
            );
        }
    }

    #[test]
    fn hosts_toml_in_containerds_form() {
        let dir = std::env::temp_dir().join(format!("ocirun-hosts-{}", std::process::id()));
        let host = dir.join("q.io");
        std::fs::create_dir_all(&host).unwrap();
        let text = r#"
            server = "https://upstream.q.io"
            ca = "upstream.pem"
            [host."http://mirror:5000"]
              capabilities = ["pull", "resolve"]
              [host."http://mirror:5000".header]
                x-one = ["a", "b"]
            [host."https://other/path/v2"]
              override_path = true
              skip_verify = true
              client = [["c.pem", "k.pem"]]
        "#;
        std::fs::write(host.join("hosts.toml"), text).unwrap();
        let sources = Sources {
            certs: vec![dir.clone()],
            registries: "/nonexistent".into(),
        };
        let found = sources.endpoints(&"q.io/a".parse().unwrap()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(
            bases(&found),
            [
                "http://mirror:5000/v2/a",
                "https://other/path/v2/a",
                "https://upstream.q.io/v2/a"
            ]
        );
        assert_eq!(found[0].uses, [Use::Pull, Use::Resolve]);
        assert_eq!(found[0].headers.len(), 2);
        assert_eq!(
            found[0].url("x").unwrap().to_string(),
            "http://mirror:5000/v2/a/x?ns=q.io"
        );
        assert!(found[1].tls.skip_verify);
        assert_eq!(
            found[1].tls.client,
            Some((host.join("c.pem"), host.join("k.pem")))
        );
        assert_eq!(found[2].tls.ca, [host.join("upstream.pem")]);
    }

    #[test]
    fn registries_conf_by_longest_prefix() {
        let text = r#"
            [[registry]]
            prefix = "q.io"
            blocked = true
            [[registry]]
            prefix = "q.io/team"
            location = "inner.q.io/all"
            [[registry.mirror]]
            location = "mirror:5000/team"
            insecure = true
            [[registry]]
            prefix = "*.example.com"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "m.io"
        "#;
        let of = |reference: &str| registries_conf(text, &reference.parse().unwrap());
        assert_eq!(
            bases(&of("q.io/team/x").unwrap().unwrap()),
            [
                "https://mirror:5000/v2/team/x",
                "http://mirror:5000/v2/team/x",
                "https://inner.q.io/v2/all/x"
            ]
        );
        assert!(of("q.io/teams").is_err());
        assert!(of("r.io/a").unwrap().is_none());
        assert_eq!(
            bases(&of("a.example.com/x").unwrap().unwrap()),
            ["https://a.example.com/v2/x"]
        );
    }
}
