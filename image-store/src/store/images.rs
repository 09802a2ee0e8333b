//! Images and tags: commit, look-up, listing, removal.

use super::{Commit, Store, Stored, now, number};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Config, Document, Manifest, parse, parse_config};
use crate::reference::Reference;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;

/// An image in a listing.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digest of its config, which CRI calls the image id.
    pub config: Digest,
    /// Full references that lead to it.
    pub tags: Vec<String>,
    /// `host/repository@digest` of what it was pulled as.
    pub digests: Vec<String>,
    /// When it was committed, in seconds since the epoch.
    pub created: i64,
    /// Bytes of disk of its unpacked layers.
    pub size: u64,
    /// Bytes of layers that no other image has.
    pub unique: u64,
    /// Bytes of compressed layers as the manifest states them.
    pub compressed: u64,
}

/// An image with its documents and layers.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest as it came.
    pub manifest: Stored,
    /// The config as it came.
    pub config: Stored,
    /// The manifest, parsed.
    pub parsed: Manifest,
    /// The config, parsed.
    pub parsed_config: Config,
    /// Names of its unpacked layers, bottom first.
    pub layers: Vec<Digest>,
}

pub(super) fn insert(t: &Transaction<'_>, boot: &str, commit: &Commit) -> Result<()> {
    for document in [
        Some(&commit.manifest),
        Some(&commit.config),
        commit.index.as_ref(),
    ]
    .into_iter()
    .flatten()
    {
        t.execute(
            "INSERT OR IGNORE INTO document (digest, media_type, data) VALUES (?, ?, ?)",
            params![document.digest, document.media_type, document.data],
        )?;
    }
    let manifest = &commit.manifest.digest;
    t.execute(
        "INSERT INTO image (manifest, config, created) VALUES (?, ?, ?) ON CONFLICT (manifest) DO NOTHING",
        params![manifest, commit.config.digest, now()],
    )?;
    t.execute(
        "DELETE FROM image_layer WHERE manifest = ?",
        params![manifest],
    )?;
    for (position, layer) in commit.layers.iter().enumerate() {
        let lasting = t.execute(
            "UPDATE layer SET boot = NULL WHERE key = ? AND (boot IS NULL OR boot = ?)",
            params![layer.layer, boot],
        )?;
        if lasting == 0 {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("layer {} is not there", layer.layer),
            ));
        }
        t.execute(
            "UPDATE blob SET boot = NULL WHERE digest = ? AND boot = ?",
            params![layer.blob, boot],
        )?;
        t.execute(
            "INSERT INTO image_layer (manifest, position, layer, blob, size, media_type) VALUES (?, ?, ?, ?, ?, ?)",
            params![manifest, number(position as u64), layer.layer, layer.blob, number(layer.size), layer.media_type],
        )?;
        if let Some(repository) = &commit.repository {
            add_source(t, &layer.blob, repository)?;
        }
    }
    let resolved = commit
        .index
        .as_ref()
        .map_or(manifest, |index| &index.digest);
    if let Some(index) = &commit.index {
        t.execute(
            "INSERT OR IGNORE INTO reached (resolved, manifest) VALUES (?, ?)",
            params![index.digest, manifest],
        )?;
    }
    if let Some(repository) = &commit.repository {
        add_source(t, manifest, repository)?;
        add_source(t, resolved, repository)?;
    }
    if let Some(tag) = &commit.tag {
        set_tag(t, tag, manifest, resolved)?;
    }
    Ok(())
}

fn add_source(t: &Transaction<'_>, digest: &Digest, repository: &str) -> Result<()> {
    t.execute(
        "INSERT OR IGNORE INTO source (digest, repository) VALUES (?, ?)",
        params![digest, repository],
    )?;
    Ok(())
}

fn set_tag(t: &Transaction<'_>, tag: &str, manifest: &Digest, resolved: &Digest) -> Result<()> {
    t.execute(
        "INSERT OR REPLACE INTO tag (name, manifest, resolved, updated) VALUES (?, ?, ?, ?)",
        params![tag, manifest, resolved, now()],
    )?;
    t.execute("DELETE FROM quarantine WHERE name = ?", [tag])?;
    Ok(())
}

impl Store {
    /// The manifest digest that a reference, a full digest or the beginning of an id (12 digits at least) leads to.
    pub fn resolve(&self, text: &str) -> Result<Digest> {
        let missing = || Error::new(ErrorKind::NotFound, format!("image {text:?} is not there"));
        let database = self.database();
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.len() >= 12
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            let mut query = database.prepare(
                "SELECT manifest FROM image WHERE manifest LIKE ?1 OR config LIKE ?1 UNION \
                 SELECT manifest FROM tag WHERE resolved LIKE ?1 UNION \
                 SELECT manifest FROM reached WHERE resolved LIKE ?1",
            )?;
            let pattern = format!("sha256:{hex}%");
            let found = query
                .query_map([pattern], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<Digest>>>()?;
            match found[..] {
                [one] => return Ok(one),
                [] => {}
                _ => {
                    return Err(Error::new(
                        ErrorKind::Invalid,
                        format!("{text:?} fits several images"),
                    ));
                }
            }
        }
        let reference: Reference = text.parse()?;
        if let Some(digest) = reference.digest {
            return database
                .query_row(
                    "SELECT image.manifest FROM image JOIN source ON source.digest = ?1 AND source.repository = ?2 \
                     WHERE image.manifest = ?1 OR image.manifest IN \
                     (SELECT manifest FROM tag WHERE resolved = ?1 UNION SELECT manifest FROM reached WHERE resolved = ?1)",
                    params![digest, reference.name()],
                    |row| row.get(0),
                )
                .optional()?
                .ok_or_else(missing);
        }
        database
            .query_row(
                "SELECT manifest FROM tag WHERE name = ?",
                [reference.to_string()],
                |row| row.get(0),
            )
            .optional()?
            .ok_or_else(missing)
    }

    /// A stored document.
    pub fn document(&self, digest: &Digest) -> Result<Stored> {
        let query = "SELECT media_type, data FROM document WHERE digest = ?";
        let row = self.database().query_row(query, [digest], |row| {
            Ok(Stored {
                digest: *digest,
                media_type: row.get(0)?,
                data: row.get(1)?,
            })
        });
        row.optional()?.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("document {digest} is not there"),
            )
        })
    }

    /// The image of a manifest digest.
    pub fn image(&self, manifest: &Digest) -> Result<Image> {
        let (config, layers) = {
            let database = self.database();
            let config: Option<Digest> = database
                .query_row(
                    "SELECT config FROM image WHERE manifest = ?",
                    [manifest],
                    |row| row.get(0),
                )
                .optional()?;
            let config = config.ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("image {manifest} is not there"),
                )
            })?;
            (config, layer_keys(&database, manifest)?)
        };
        let manifest = self.document(manifest)?;
        let config = self.document(&config)?;
        let Document::Manifest(parsed) = parse(&manifest.data, Some(&manifest.media_type))? else {
            return Err(crate::error::invalid("image is an index"));
        };
        let parsed_config = parse_config(&config.data, parsed.layers.len())?;
        Ok(Image {
            manifest,
            config,
            parsed,
            parsed_config,
            layers,
        })
    }

    /// All images, in order of their manifests' digests.
    pub fn images(&self) -> Result<Vec<Summary>> {
        let database = self.database();
        let mut query =
            database.prepare("SELECT manifest, config, created FROM image ORDER BY manifest")?;
        let rows = query
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<Vec<(Digest, Digest, i64)>>>()?;
        rows.into_iter()
            .map(|row| summary(&database, row))
            .collect()
    }

    /// Gives an image another name.
    pub fn tag(&self, manifest: &Digest, name: &Reference) -> Result<()> {
        if name.digest.is_some() {
            return Err(crate::error::invalid(format!(
                "\"{name}\" has a digest and cannot be a tag"
            )));
        }
        self.lasting_transaction(|t| set_tag(t, &name.to_string(), manifest, manifest))
    }

    /// Takes a name away; the image goes with its last one, or at once when it is named by digest or id.
    pub fn remove(&self, text: &str) -> Result<Digest> {
        let manifest = match self.resolve(text) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self.give_up(text)?.ok_or(error);
            }
            found => found?,
        };
        let name = text
            .parse::<Reference>()
            .ok()
            .filter(|r| r.digest.is_none())
            .map(|r| r.to_string());
        self.lasting_transaction(|t| {
            let untagged = match &name {
                Some(name) => t.execute("DELETE FROM tag WHERE name = ?", [name])?,
                None => 0,
            };
            let left: i64 = t.query_row(
                "SELECT count(*) FROM tag WHERE manifest = ?",
                [manifest],
                |row| row.get(0),
            )?;
            if untagged == 0 || left == 0 {
                t.execute("DELETE FROM image WHERE manifest = ?", [manifest])?;
            }
            Ok(())
        })?;
        Ok(manifest)
    }

    /// Repositories in which a digest was seen.
    pub fn sources(&self, digest: &Digest) -> Result<Vec<String>> {
        let database = self.database();
        let mut query = database
            .prepare("SELECT repository FROM source WHERE digest = ? ORDER BY repository")?;
        Ok(query
            .query_map([digest], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?)
    }
}

fn layer_keys(database: &Connection, manifest: &Digest) -> Result<Vec<Digest>> {
    let mut query =
        database.prepare("SELECT layer FROM image_layer WHERE manifest = ? ORDER BY position")?;
    Ok(query
        .query_map([manifest], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?)
}

fn summary(
    database: &Connection,
    (manifest, config, created): (Digest, Digest, i64),
) -> Result<Summary> {
    let strings = |sql: &str| -> Result<Vec<String>> {
        let mut query = database.prepare_cached(sql)?;
        Ok(query
            .query_map([manifest], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?)
    };
    let sum = |sql: &str| -> Result<u64> {
        let total: i64 = database
            .prepare_cached(sql)?
            .query_row([manifest], |row| row.get(0))?;
        Ok(total.cast_unsigned())
    };
    Ok(Summary {
        manifest,
        config,
        tags: strings("SELECT name FROM tag WHERE manifest = ? ORDER BY name")?,
        digests: strings(
            "SELECT DISTINCT repository || '@' || digest FROM source \
             WHERE digest = ?1 OR digest IN (SELECT resolved FROM tag WHERE manifest = ?1 UNION \
             SELECT resolved FROM reached WHERE manifest = ?1) ORDER BY 1",
        )?,
        created,
        size: sum("SELECT coalesce(sum(disk), 0) FROM layer WHERE key IN \
                   (SELECT layer FROM image_layer WHERE manifest = ?)")?,
        unique: sum("SELECT coalesce(sum(disk), 0) FROM layer WHERE \
                     key IN (SELECT layer FROM image_layer WHERE manifest = ?1) AND \
                     key NOT IN (SELECT layer FROM image_layer WHERE manifest <> ?1)")?,
        compressed: sum("SELECT coalesce(sum(size), 0) FROM image_layer WHERE manifest = ?")?,
    })
}
