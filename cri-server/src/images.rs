//! Images as the interface sees them, wholly on the image store.
//!
//! An image's id is the digest of its config: that is what `PullImage` answers, what containers are said to use, and what
//! an image has under whatever registry, tag or compression it came. The store knows images by their manifests, so several
//! of the store's may be one here.

use crate::api::{AuthConfig, Image, ImageSpec, Int64Value};
use crate::error::{Error, Kind, Result, invalid};
use crate::flight::{Abandoned, Flights};
use crate::live::Live;
use base64::Engine as _;
use image_store::manifest::Platform;
use image_store::pull::{self, Blobs};
use image_store::registry::auth::Credentials;
use image_store::registry::hosts::Sources;
use image_store::registry::{Patience, Registry};
use image_store::store::gc::{PARTIAL_AGE, Usage};
use image_store::store::images::Summary;
use image_store::{Digest, ErrorKind, Reference, Store};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The image service.
#[derive(Debug)]
pub struct Images {
    store: Arc<Store>,
    live: Arc<Live>,
    pulls: Flights<Pull, String>,
    /// What configs say of their user: a config never changes.
    users: Mutex<HashMap<Digest, String>>,
    collecting: tokio::sync::Mutex<()>,
}

/// What makes two pulls the same: the image, and who asks for it. Who may not have an image must not get it because
/// somebody else may.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Pull {
    reference: Reference,
    credentials: Vec<String>,
}

/// One image: everything in the store that has the same config.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Digest of the config, the image's id.
    pub id: Digest,
    /// What the store has, at least one.
    pub stored: Vec<Summary>,
}

impl Images {
    /// Opens the store below the configured root.
    ///
    /// # Errors
    /// Those of the store.
    pub fn open(live: Arc<Live>) -> Result<Self> {
        let root = live.get().root.join("images");
        Ok(Self {
            store: Arc::new(Store::open(&root)?),
            live,
            pulls: Flights::default(),
            users: Mutex::default(),
            collecting: tokio::sync::Mutex::default(),
        })
    }

    /// The store, for mounts of layers.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Pulls an image, or joins who pulls it already, and returns its id.
    ///
    /// # Errors
    /// `Invalid` for what is no reference or no credentials; otherwise the store's, with kubelet's word where the
    /// registry cannot be reached.
    pub async fn pull(self: &Arc<Self>, image: &str, auth: Option<&AuthConfig>) -> Result<String> {
        let reference = reference(image)?;
        let credentials = auth
            .map(|auth| credentials(auth, &reference))
            .transpose()?
            .flatten();
        let key = Pull {
            reference: reference.clone(),
            credentials: match &credentials {
                None => Vec::new(),
                Some(Credentials::Basic(user, password)) => vec![user.clone(), password.clone()],
                Some(Credentials::Identity(token) | Credentials::Bearer(token)) => {
                    vec![token.clone()]
                }
            },
        };
        let this = self.clone();
        let work = move || async move { this.fetch(reference, credentials).await };
        self.pulls.join(key, Abandoned::Ends, work).await
    }

    async fn fetch(&self, reference: Reference, who: Option<Credentials>) -> Result<String> {
        let config = self.live.get();
        let sources = Sources {
            certs: config.registry.hosts_dirs.clone(),
            registries: config.registry.registries_conf.clone(),
        };
        let patience = Patience {
            window: Duration::from_secs(config.registry.stall_seconds.max(1)),
            ..Patience::default()
        };
        let files: Vec<PathBuf> = config.registry.credentials.clone();
        let registry = Registry::new(sources, files, patience).with_credentials(who);
        let options = pull::Options {
            platform: Platform::host(),
            blobs: if config.registry.keep_blobs {
                Blobs::Keep
            } else {
                Blobs::Discard
            },
            parallel: config.registry.parallel_layers,
            progress: Arc::new(|_| {}),
        };
        tracing::debug!("pull {reference}");
        let store = self.store.clone();
        let (alive, abandoned) = tokio::sync::oneshot::channel::<()>();
        // A thread of its own, because the store's work may not move between threads in its midst.
        let pulled = blocking(move || {
            let work = async {
                let registry = Arc::new(registry);
                tokio::select! {
                    pulled = pull::pull(&store, &registry, &reference, &options) => pulled
                        .and_then(|manifest| store.image(&manifest))
                        .map_err(|error| Error::from(error).at(format!("pull {reference}"))),
                    _ = abandoned => Err(Error::new(Kind::Cancelled, "nobody waits for it")),
                }
            };
            let image = tokio::runtime::Handle::current().block_on(work)?;
            tracing::info!("pulled {reference}: {}", image.config.digest);
            Ok(image.config.digest.to_string())
        });
        let id = pulled.await;
        drop(alive);
        id
    }

    /// All images, in order of their ids.
    ///
    /// # Errors
    /// Those of the store.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let mut by_id: BTreeMap<String, Entry> = BTreeMap::new();
        for summary in self.store.images()? {
            let id = summary.config;
            let entry = by_id.entry(id.to_string()).or_insert_with(|| Entry {
                id,
                stored: Vec::new(),
            });
            entry.stored.push(summary);
        }
        Ok(by_id.into_values().collect())
    }

    /// The image that an id, the beginning of an id, a tag or a digest leads to; nothing if there is none.
    ///
    /// # Errors
    /// `Invalid` for what cannot be the name of an image, or fits several.
    pub fn find(&self, text: &str) -> Result<Option<Entry>> {
        let entries = self.list()?;
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() >= 3 && hex.bytes().all(is_hex) {
            let mut fitting = entries.iter().filter(|e| e.id.hex().starts_with(hex));
            match (fitting.next(), fitting.next()) {
                (Some(one), None) => return Ok(Some(one.clone())),
                (Some(_), Some(_)) => {
                    return Err(invalid("image", format!("{text:?} fits several images")));
                }
                (None, _) => {}
            }
        }
        let manifest = match self.store.resolve(text) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Invalid => {
                return Err(invalid("image", error));
            }
            found => found?,
        };
        let holds = |entry: &Entry| entry.stored.iter().any(|s| s.manifest == manifest);
        Ok(entries.into_iter().find(holds))
    }

    /// The image in the interface's words.
    ///
    /// # Errors
    /// Those of the store.
    pub fn shown(&self, entry: &Entry) -> Result<Image> {
        let config = self.live.get();
        let mut tags = Vec::new();
        let mut digests = Vec::new();
        for summary in &entry.stored {
            tags.extend(summary.tags.iter().cloned());
            digests.extend(summary.digests.iter().cloned());
        }
        let user = self.user(entry)?;
        let name = user.split(':').next().unwrap_or_default();
        let uid = name.parse::<i64>().ok().map(|value| Int64Value { value });
        let pinned = config
            .pinned_images
            .iter()
            .chain([&config.sandbox_image])
            .filter_map(|pinned| pinned.parse::<Reference>().ok())
            .any(|pinned| tags.contains(&pinned.to_string()));
        Ok(Image {
            id: entry.id.to_string(),
            username: if uid.is_some() {
                String::new()
            } else {
                name.to_owned()
            },
            uid,
            size: size(entry),
            spec: Some(ImageSpec {
                image: entry.id.to_string(),
                ..ImageSpec::default()
            }),
            pinned,
            repo_tags: tags,
            repo_digests: digests,
        })
    }

    /// What the image's config says of its user: nothing, a name or a number, perhaps with a group.
    fn user(&self, entry: &Entry) -> Result<String> {
        let users = || self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = users().get(&entry.id) {
            return Ok(user.clone());
        }
        let image = self.store.image(&entry.stored[0].manifest)?;
        let config = image.parsed_config.image.config().as_ref();
        let user = config.and_then(|c| c.user().clone()).unwrap_or_default();
        users().insert(entry.id, user.clone());
        Ok(user)
    }

    /// Removes an image with all its names, and frees what nothing else needs. What containers use stays until they go.
    ///
    /// # Errors
    /// `Invalid` as for [`Self::find`]; that there is no such image is no error.
    pub async fn remove(self: &Arc<Self>, text: &str) -> Result<()> {
        let this = self.clone();
        let text = text.to_owned();
        let is_gone = blocking(move || {
            let Some(entry) = this.find(&text)? else {
                return Ok(false);
            };
            for summary in &entry.stored {
                match this.store.remove(&summary.manifest.to_string()) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    done => drop(done?),
                }
            }
            tracing::info!("removed image {}", entry.id);
            Ok(true)
        });
        if is_gone.await? {
            self.collect().await?;
        }
        Ok(())
    }

    /// Frees what no image, pull or container needs.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn collect(self: &Arc<Self>) -> Result<()> {
        let _alone = self.collecting.lock().await;
        let store = self.store.clone();
        blocking(move || Ok(store.collect(PARTIAL_AGE)?)).await?;
        Ok(())
    }

    /// What the store holds.
    ///
    /// # Errors
    /// Those of the store.
    pub fn usage(&self) -> Result<Usage> {
        Ok(self.store.usage()?)
    }
}

/// Bytes of disk; kubelet takes an image without size for none, so an image without files has that of its layers.
fn size(entry: &Entry) -> u64 {
    let largest = |size: fn(&Summary) -> u64| entry.stored.iter().map(size).max().unwrap_or(0);
    largest(|s| s.size).max(largest(|s| s.compressed)).max(1)
}

/// The reference that a request names.
fn reference(image: &str) -> Result<Reference> {
    if image.is_empty() {
        return Err(invalid("image.image", "is empty"));
    }
    image.parse().map_err(|error| invalid("image.image", error))
}

/// The credentials of a request, or none if they are for another host.
fn credentials(auth: &AuthConfig, reference: &Reference) -> Result<Option<Credentials>> {
    if !auth.server_address.is_empty() && host(&auth.server_address) != host(&reference.host) {
        return Ok(None);
    }
    if !auth.registry_token.is_empty() {
        return Ok(Some(Credentials::Bearer(auth.registry_token.clone())));
    }
    if !auth.identity_token.is_empty() {
        return Ok(Some(Credentials::Identity(auth.identity_token.clone())));
    }
    if !auth.username.is_empty() {
        let pair = (auth.username.clone(), auth.password.clone());
        return Ok(Some(Credentials::Basic(pair.0, pair.1)));
    }
    if auth.auth.is_empty() {
        return Ok(None);
    }
    let wrong = || invalid("auth.auth", "is not base64 of \"user:password\"");
    let plain = base64::engine::general_purpose::STANDARD
        .decode(auth.auth.trim_end_matches('\0'))
        .map_err(|_| wrong())?;
    let plain = String::from_utf8(plain).map_err(|_| wrong())?;
    let (user, password) = plain.split_once(':').ok_or_else(wrong)?;
    let password = password.trim_end_matches('\0');
    Ok(Some(Credentials::Basic(
        user.to_owned(),
        password.to_owned(),
    )))
}

/// The host of an address as credentials have it: a URL, perhaps with a path, or a host alone.
fn host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

/// Runs what blocks off the threads that serve.
///
/// # Errors
/// Those of `work`; `Cancelled` if it panicked.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::new(Kind::Cancelled, format!("worker: {error}")))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(change: impl FnOnce(&mut AuthConfig)) -> AuthConfig {
        let mut auth = AuthConfig::default();
        change(&mut auth);
        auth
    }

    #[test]
    fn credentials_of_all_forms() {
        let reference: Reference = "q.io/a:1".parse().unwrap();
        let basic = |user: &str, password: &str| {
            Some(Credentials::Basic(user.to_owned(), password.to_owned()))
        };
        for (auth, expected) in [
            (AuthConfig::default(), None),
            (
                auth(|a| {
                    a.username = "u".into();
                    a.password = "p".into();
                }),
                basic("u", "p"),
            ),
            (auth(|a| a.auth = "dTpwOnE=".into()), basic("u", "p:q")),
            (
                auth(|a| a.identity_token = "t".into()),
                Some(Credentials::Identity("t".to_owned())),
            ),
            (
                auth(|a| a.registry_token = "t".into()),
                Some(Credentials::Bearer("t".to_owned())),
            ),
            (
                auth(|a| {
                    a.auth = "dTpw".into();
                    a.server_address = "https://q.io/v1/".into();
                }),
                basic("u", "p"),
            ),
            (
                auth(|a| {
                    a.auth = "dTpw".into();
                    a.server_address = "other.io".into();
                }),
                None,
            ),
        ] {
            assert_eq!(credentials(&auth, &reference).unwrap(), expected);
        }
    }

    #[test]
    fn credentials_that_are_none() {
        let reference: Reference = "q.io/a:1".parse().unwrap();
        for (auth, words) in [
            (auth(|a| a.auth = "*".into()), "auth.auth: is not base64"),
            (auth(|a| a.auth = "dTs=".into()), "auth.auth: is not base64"),
        ] {
            let error = credentials(&auth, &reference).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn names_of_the_same_host() {
        for (address, expected) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("q.io:5000", "q.io:5000"),
            ("http://q.io/a/b", "q.io"),
        ] {
            assert_eq!(host(address), expected);
        }
    }
}
