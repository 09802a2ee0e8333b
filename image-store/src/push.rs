//! Push: the kept blobs of an image, its config, its manifest, in this order, so that nothing visible is incomplete.

use crate::archive::{Member, kept_blob};
use crate::digest::Digest;
use crate::error::{At, Result};
use crate::reference::Reference;
use crate::registry::Registry;
use crate::registry::push::Source;
use crate::store::Store;
use bytes::Bytes;
use std::sync::Arc;

struct Memory(Bytes);

impl Source for Memory {
    async fn read(&self, offset: u64, length: usize) -> Result<Bytes> {
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.0.len());
        Ok(self
            .0
            .slice(start..self.0.len().min(start.saturating_add(length))))
    }
}

/// A kept blob, whose uploads the store remembers.
struct Kept<'a> {
    member: Member,
    store: &'a Store,
    digest: Digest,
}

impl Source for Kept<'_> {
    async fn read(&self, offset: u64, length: usize) -> Result<Bytes> {
        Source::read(&self.member, offset, length).await
    }

    fn begun(&self, target: &str) -> Option<String> {
        self.store.begun_upload(target, &self.digest).ok().flatten()
    }

    fn note(&self, target: &str, session: Option<&str>) {
        // Without it, the next push begins anew.
        drop(self.store.note_upload(target, &self.digest, session));
    }
}

/// Uploads the image of a manifest digest to a repository, under the tag of `destination` or by its digest.
pub async fn push(
    store: &Arc<Store>,
    registry: &Registry,
    manifest: &Digest,
    destination: &Reference,
) -> Result<()> {
    let image = store.image(manifest)?;
    let lease = store.lease()?;
    let elsewhere = |digest: &Digest| -> Result<Vec<String>> {
        let prefix = format!("{}/", destination.host);
        let mine = store
            .sources(digest)?
            .into_iter()
            .filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned));
        Ok(mine
            .filter(|repository| *repository != destination.repository)
            .collect())
    };
    for layer in &image.parsed.layers {
        lease.blob(&layer.digest)?;
        let source = Kept {
            member: kept_blob(store, &layer.digest)?,
            store,
            digest: layer.digest,
        };
        let from = elsewhere(&layer.digest)?;
        let size = source.member.size();
        let pushed = registry
            .push_blob(destination, (&layer.digest, size), &from, &source)
            .await;
        pushed.at(|| format!("layer {}", layer.digest))?;
    }
    let config = &image.config;
    let source = Memory(config.data.clone().into());
    let size = config.data.len() as u64;
    registry
        .push_blob(destination, (&config.digest, size), &[], &source)
        .await
        .at(|| "config")?;
    registry.push_manifest(destination, &image.manifest).await
}
