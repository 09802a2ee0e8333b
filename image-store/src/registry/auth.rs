//! Credentials and tokens: docker's config.json and its helpers, basic and bearer authentication.
//!
//! Credentials belong to one host. They are sent to it, and to the token server it names, which must be reached securely.

use super::hosts::Endpoint;
use super::http::{Call, Http, is_loopback, read_all};
use crate::error::{At, Context, Error, ErrorKind, Result, invalid};
use crate::limits;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who one is to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User and password.
    Basic(String, String),
    /// A token that buys others from the token server.
    Identity(String),
    /// A token that the registry itself takes.
    Bearer(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Basic(user, _) => write!(f, "Basic({user:?}, …)"),
            Self::Identity(_) => f.write_str("Identity(…)"),
            Self::Bearer(_) => f.write_str("Bearer(…)"),
        }
    }
}

/// Where docker-like programs keep credentials, in the order in which they are asked.
pub fn config_files() -> Vec<PathBuf> {
    let var = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let docker = var("DOCKER_CONFIG").or_else(|| var("HOME").map(|home| home.join(".docker")));
    let run = var("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    let files = [
        var("REGISTRY_AUTH_FILE"),
        docker.map(|dir| dir.join("config.json")),
        run,
    ];
    files.into_iter().flatten().collect()
}

/// The keys under which a host's credentials may stand.
fn keys(authority: &str, repository: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = format!("{authority}/{repository}");
    while let Some((parent, _)) = path.rsplit_once('/') {
        keys.push(path.clone());
        path = parent.to_owned();
    }
    keys.push(authority.to_owned());
    keys.extend([
        format!("https://{authority}"),
        format!("http://{authority}"),
    ]);
    keys.extend([
        format!("https://{authority}/v1/"),
        format!("https://{authority}/v2/"),
    ]);
    if matches!(
        authority,
        "registry-1.docker.io" | "docker.io" | "index.docker.io"
    ) {
        let names = [
            "https://index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
        ];
        keys.extend(names.map(str::to_owned));
    }
    keys
}

/// The credentials for a repository of a host, if any are configured.
pub fn credentials(
    files: &[PathBuf],
    authority: &str,
    repository: &str,
) -> Result<Option<Credentials>> {
    for file in files {
        let Some(config) = read_config(file)? else {
            continue;
        };
        let found =
            from_config(&config, &keys(authority, repository)).at(|| format!("{file:?}"))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn read_config(file: &Path) -> Result<Option<Value>> {
    match std::fs::read(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => {
            let data = read.call(|| format!("read {file:?}"))?;
            crate::manifest::json(&data)
                .map(Some)
                .at(|| format!("{file:?}"))
        }
    }
}

fn from_config(config: &Value, keys: &[String]) -> Result<Option<Credentials>> {
    for key in keys {
        let helper = config
            .get("credHelpers")
            .and_then(|helpers| helpers.get(key))
            .and_then(Value::as_str);
        if let Some(found) = helper
            .map(|helper| ask_helper(helper, key))
            .transpose()?
            .flatten()
        {
            return Ok(Some(found));
        }
        if let Some(found) = config
            .get("auths")
            .and_then(|auths| auths.get(key))
            .and_then(|auth| written(auth).transpose())
        {
            return found.map(Some);
        }
    }
    let Some(store) = config.get("credsStore").and_then(Value::as_str) else {
        return Ok(None);
    };
    for key in keys {
        if let Some(found) = ask_helper(store, key)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn written(auth: &Value) -> Result<Option<Credentials>> {
    let word = |name: &str| {
        auth.get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    if let Some(token) = word("identitytoken") {
        return Ok(Some(Credentials::Identity(token.to_owned())));
    }
    if let Some(token) = word("registrytoken") {
        return Ok(Some(Credentials::Bearer(token.to_owned())));
    }
    if let (Some(user), Some(password)) = (word("username"), word("password")) {
        return Ok(Some(Credentials::Basic(
            user.to_owned(),
            password.to_owned(),
        )));
    }
    let Some(auth) = word("auth") else {
        return Ok(None);
    };
    let bad = || invalid("auth is not base64 of user:password");
    let text = STANDARD
        .decode(auth.trim())
        .ok()
        .and_then(|data| String::from_utf8(data).ok())
        .ok_or_else(bad)?;
    let (user, password) = text.split_once(':').ok_or_else(bad)?;
    Ok(Some(Credentials::Basic(
        user.to_owned(),
        password.trim_end_matches('\0').to_owned(),
    )))
}

/// Runs `docker-credential-<helper> get`, without a shell and for at most half a minute.
fn ask_helper(helper: &str, key: &str) -> Result<Option<Credentials>> {
    let answer = run_helper(helper, "get", key.as_bytes())?;
    let Some(answer) = answer else {
        return Ok(None);
    };
    let answer = crate::manifest::json(&answer).at(|| format!("credential helper {helper:?}"))?;
    let word = |name: &str| {
        answer
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    Ok(match word("Username").as_str() {
        "" => None,
        "<token>" => Some(Credentials::Identity(word("Secret"))),
        user => Some(Credentials::Basic(user.to_owned(), word("Secret"))),
    })
}

fn run_helper(helper: &str, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>> {
    if helper.is_empty()
        || !helper
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        return Err(invalid(format!(
            "credential helper {helper:?} is not a plain name"
        )));
    }
    let program = format!("docker-credential-{helper}");
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .call(|| format!("run {program:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input fails below.
        drop(stdin.write_all(input));
    }
    let stdout = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut data = Vec::new();
        let read = stdout.map(|out| {
            std::io::Read::read_to_end(&mut std::io::Read::take(out, limits::TOKEN), &mut data)
        });
        read.transpose().map(|_| data)
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    let status = loop {
        match child.try_wait().call(|| format!("wait for {program:?}"))? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                child.kill().call(|| format!("kill {program:?}"))?;
                child.wait().call(|| format!("wait for {program:?}"))?;
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("{program:?} did not answer within 30 s"),
                ));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let data = reader
        .join()
        .map_err(|_| invalid("reader of a credential helper"))?;
    let data = data.call(|| format!("read from {program:?}"))?;
    // Helpers answer with a failure when they know nothing of the host.
    Ok(status.success().then_some(data))
}

/// Keeps credentials for a host in docker's config, or with the helper it names.
pub fn store(file: &Path, host: &str, credentials: &Credentials) -> Result<()> {
    change(file, host, Some(credentials))
}

/// Forgets the credentials of a host; true if there were any.
pub fn forget(file: &Path, host: &str) -> Result<bool> {
    let known = read_config(file)?
        .is_some_and(|config| from_config(&config, &[config_key(host)]).is_ok_and(|c| c.is_some()));
    if known {
        change(file, host, None)?;
    }
    Ok(known)
}

fn config_key(host: &str) -> String {
    if host == "docker.io" {
        "https://index.docker.io/v1/".to_owned()
    } else {
        host.to_owned()
    }
}

fn change(file: &Path, host: &str, credentials: Option<&Credentials>) -> Result<()> {
    let mut config = read_config(file)?.unwrap_or_else(|| json!({}));
    let key = config_key(host);
    let named = config
        .get("credHelpers")
        .and_then(|h| h.get(&key))
        .or_else(|| config.get("credsStore"));
    let helper = named.and_then(Value::as_str).map(str::to_owned);
    let object = config
        .as_object_mut()
        .ok_or_else(|| invalid(format!("{file:?} is not an object")))?;
    let auths = object.entry("auths").or_insert_with(|| json!({}));
    let auths = auths
        .as_object_mut()
        .ok_or_else(|| invalid(format!("{file:?}: auths is not an object")))?;
    match (credentials, &helper) {
        (Some(credentials), Some(helper)) => {
            let (user, secret) = match credentials {
                Credentials::Basic(user, password) => (user.as_str(), password),
                Credentials::Identity(token) => ("<token>", token),
                Credentials::Bearer(_) => {
                    let text =
                        format!("credential helper {helper:?} keeps no tokens of registries");
                    return Err(invalid(text));
                }
            };
            let input = json!({"ServerURL": key, "Username": user, "Secret": secret}).to_string();
            run_helper(helper, "store", input.as_bytes())?.ok_or_else(|| {
                Error::new(
                    ErrorKind::Unavailable,
                    format!("credential helper {helper:?} refused"),
                )
            })?;
            auths.insert(key, json!({}));
        }
        (Some(Credentials::Basic(user, password)), None) => {
            auths.insert(
                key,
                json!({"auth": STANDARD.encode(format!("{user}:{password}"))}),
            );
        }
        (Some(Credentials::Identity(token)), None) => {
            auths.insert(key, json!({"identitytoken": token}));
        }
        (Some(Credentials::Bearer(token)), None) => {
            auths.insert(key, json!({"registrytoken": token}));
        }
        (None, helper) => {
            if let Some(helper) = helper {
                run_helper(helper, "erase", key.as_bytes())?;
            }
            auths.remove(&key);
        }
    }
    write_private(file, &config)
}

fn write_private(file: &Path, config: &Value) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let dir = file.parent().unwrap_or_else(|| Path::new("."));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .call(|| format!("mkdir {dir:?}"))?;
    let new = dir.join(format!(".config.json.{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut out = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .call(|| format!("open {new:?}"))?;
    let text = serde_json::to_string_pretty(config).map_err(|e| invalid(e.to_string()))?;
    out.write_all(text.as_bytes())
        .and_then(|()| out.sync_all())
        .call(|| format!("write {new:?}"))?;
    std::fs::rename(&new, file).call(|| format!("rename {new:?} to {file:?}"))
}

/// Tokens that are still good, by host and scope.
#[derive(Default)]
pub(super) struct Tokens {
    known: Mutex<HashMap<(String, String), (String, Instant)>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

/// What a call needs of a repository, as token servers name it.
pub(super) fn scope(repository: &str, actions: &str) -> String {
    format!("repository:{repository}:{actions}")
}

impl Tokens {
    /// The header for a host and scope, if one is known.
    pub(super) fn known(&self, authority: &str, scope: &str) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (header, until) = known.get(&(authority.to_owned(), scope.to_owned()))?;
        (Instant::now() < *until).then(|| header.clone())
    }

    fn keep(&self, authority: &str, scope: &str, header: &str, seconds: u64) {
        let until = Instant::now() + Duration::from_secs(seconds.saturating_sub(10).max(10));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(
            (authority.to_owned(), scope.to_owned()),
            (header.to_owned(), until),
        );
    }

    /// Answers a 401: the header to try next, or nothing if there is none.
    pub(super) async fn answer(
        &self,
        http: &Http,
        endpoint: &Endpoint,
        challenges: &HeaderMap,
        (scope, credentials): (&str, Option<Credentials>),
    ) -> Result<Option<String>> {
        let challenges = challenges
            .get_all(http::header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .filter_map(parse_challenge)
            .collect::<Vec<_>>();
        let authority = endpoint.authority();
        let asks_for = |wanted: &str| challenges.iter().any(|(scheme, _)| scheme == wanted);
        if let Some(Credentials::Bearer(token)) = &credentials
            && asks_for("bearer")
        {
            let header = format!("Bearer {token}");
            self.keep(&authority, scope, &header, 3600);
            return Ok(Some(header));
        }
        for (scheme, parameters) in &challenges {
            if scheme == "bearer" {
                let (token, seconds) =
                    fetch_token(http, endpoint, parameters, scope, credentials.as_ref())
                        .await
                        .map_err(|e| e.at(format!("token for {authority}")))?;
                let header = format!("Bearer {token}");
                self.keep(&authority, scope, &header, seconds);
                return Ok(Some(header));
            }
        }
        match credentials {
            Some(Credentials::Basic(user, password)) if asks_for("basic") => {
                let header = basic(&user, &password);
                self.keep(&authority, scope, &header, 3600);
                Ok(Some(header))
            }
            _ => Ok(None),
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Scheme in lower case and parameters of one challenge; see RFC 9110, section 11.6.1.
fn parse_challenge(text: &str) -> Option<(String, HashMap<String, String>)> {
    let (scheme, mut rest) = text
        .trim()
        .split_once(' ')
        .unwrap_or_else(|| (text.trim(), ""));
    let mut parameters = HashMap::new();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        let Some((name, after)) = rest.split_once('=') else {
            break;
        };
        let value;
        if let Some(quoted) = after.strip_prefix('"') {
            let end = quoted.find('"')?;
            value = &quoted[..end];
            rest = &quoted[end + 1..];
        } else {
            let end = after.find(',').unwrap_or(after.len());
            value = after[..end].trim();
            rest = &after[end..];
        }
        parameters.insert(name.trim().to_ascii_lowercase(), value.to_owned());
    }
    Some((scheme.to_ascii_lowercase(), parameters))
}

fn encode(text: &str) -> String {
    let keep = |b: u8| {
        b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b':' | b'/' | b',')
    };
    text.bytes()
        .map(|b| {
            if keep(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

async fn fetch_token(
    http: &Http,
    endpoint: &Endpoint,
    parameters: &HashMap<String, String>,
    scope: &str,
    credentials: Option<&Credentials>,
) -> Result<(String, u64)> {
    let realm = parameters
        .get("realm")
        .ok_or_else(|| invalid("challenge without a realm"))?;
    let uri: Uri = realm
        .parse()
        .map_err(|_| invalid(format!("realm {realm:?} is no address")))?;
    let is_plain_registry = endpoint.base.starts_with("http://");
    let same_host = uri
        .authority()
        .is_some_and(|a| a.as_str() == endpoint.authority());
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_plain_registry && (same_host || is_loopback(&uri)) => {}
        _ => {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("realm {realm:?} is not a secure address"),
            ));
        }
    }
    let service = parameters
        .get("service")
        .map(String::as_str)
        .unwrap_or_default();
    let query = format!("service={}&scope={}", encode(service), encode(scope));
    let call = match credentials {
        Some(Credentials::Identity(token)) => {
            let mut call = Call::new(Method::POST, uri);
            let body = format!(
                "{query}&grant_type=refresh_token&client_id=ocirun&refresh_token={}",
                encode(token)
            );
            call.body = body.into();
            call.header(CONTENT_TYPE, "application/x-www-form-urlencoded")?
        }
        other => {
            let separator = if realm.contains('?') { '&' } else { '?' };
            let url = format!("{realm}{separator}{query}");
            let call = Call::get(
                url.parse()
                    .map_err(|_| invalid(format!("realm {realm:?} is no address")))?,
            );
            match other {
                Some(Credentials::Basic(user, password)) => {
                    call.header(AUTHORIZATION, &basic(user, password))?
                }
                _ => call,
            }
        }
    };
    // The token server is not the registry: it gets its TLS settings, but none of its headers.
    let plain = Endpoint {
        headers: Vec::new(),
        ..endpoint.clone()
    };
    let answer = http.send(&plain, &call).await?;
    if answer.status() != StatusCode::OK {
        return Err(super::http::refusal(&call, answer).await);
    }
    let body = read_all(answer.into_body(), limits::TOKEN, Duration::from_secs(30)).await?;
    let body = crate::manifest::json(&body)?;
    let token = body
        .get("token")
        .or_else(|| body.get("access_token"))
        .and_then(Value::as_str);
    let token = token
        .filter(|t| !t.is_empty())
        .ok_or_else(|| invalid("answer has no token"))?;
    Ok((
        token.to_owned(),
        body.get("expires_in").and_then(Value::as_u64).unwrap_or(60),
    ))
}

#[cfg(test)]
mod tests;
