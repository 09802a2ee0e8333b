//! Checks the store against its database: every layer's seal, every blob's and document's digest.

use super::{Store, now, number};
use crate::digest::{Digest, Hasher};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::layout::measure;
use crate::reference::Reference;
use rusqlite::params;
use rustix::fs::OFlags;
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::fd::AsFd;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Layers that were read in full.
    pub layers: u64,
    /// Blobs that were read in full.
    pub blobs: u64,
    /// Documents that were hashed.
    pub documents: u64,
    /// What is damaged or missing.
    pub damaged: Vec<Damage>,
    /// Images that were taken out of use before, and their names.
    pub quarantined: BTreeMap<Digest, Vec<String>>,
}

/// One damaged part and the images that have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// `layer`, `blob` or `document`.
    pub kind: &'static str,
    /// Its name.
    pub key: Digest,
    /// What is wrong.
    pub what: String,
    /// Manifests of the images that have it.
    pub images: Vec<Digest>,
}

impl Store {
    /// Reads everything, and changes nothing but sizes that the file system now counts otherwise.
    pub fn check(&self) -> Result<Report> {
        let mut report = Report {
            quarantined: self.quarantined()?,
            ..Report::default()
        };
        for (key, seal) in
            self.pairs("SELECT key, seal FROM layer WHERE boot IS NULL OR boot = ?")?
        {
            report.layers += 1;
            if let Err(error) = self.check_layer(&key, &seal) {
                let images = self.affected("layer", &key)?;
                report.damaged.push(Damage {
                    kind: "layer",
                    key,
                    what: error.to_string(),
                    images,
                });
            }
        }
        for (digest, _) in
            self.pairs("SELECT digest, '' FROM blob WHERE boot IS NULL OR boot = ?")?
        {
            report.blobs += 1;
            if let Err(error) = self.check_blob(&digest) {
                let images = self.affected("blob", &digest)?;
                report.damaged.push(Damage {
                    kind: "blob",
                    key: digest,
                    what: error.to_string(),
                    images,
                });
            }
        }
        for (digest, _) in self.pairs("SELECT digest, ?1 FROM document")? {
            report.documents += 1;
            if let Err(error) = digest.verify(&self.document(&digest)?.data) {
                let images = self.affected_by_document(&digest)?;
                report.damaged.push(Damage {
                    kind: "document",
                    key: digest,
                    what: error.to_string(),
                    images,
                });
            }
        }
        Ok(report)
    }

    fn pairs(&self, sql: &str) -> Result<Vec<(Digest, String)>> {
        let database = self.database();
        let mut query = database.prepare(sql)?;
        let rows = query.query_map([self.boot()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn check_layer(&self, key: &Digest, seal: &str) -> Result<()> {
        let measured = measure::layer(self.open_layer(key)?.as_fd())?;
        if measured.seal == *seal {
            return self.correct_size(key, &measured);
        }
        Err(Error::new(
            ErrorKind::Corrupt,
            format!("seal is {}, expected {seal}", measured.seal),
        ))
    }

    /// A file system may take some blocks more or less when it writes than it had counted when the layer was made.
    fn correct_size(&self, key: &Digest, measured: &measure::Measured) -> Result<()> {
        let (disk, inodes) = (number(measured.disk), number(measured.inodes));
        self.database().execute(
            "UPDATE layer SET disk = ?2, inodes = ?3 WHERE key = ?1 AND (disk, inodes) <> (?2, ?3)",
            params![key, disk, inodes],
        )?;
        Ok(())
    }

    fn check_blob(&self, digest: &Digest) -> Result<()> {
        let file = self.open_path(&Self::blob_path(digest), OFlags::RDONLY)?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = rustix::io::read(&file, &mut buffer[..]).call(|| "read blob")?;
            if read == 0 {
                return digest.expect(&hasher.finish());
            }
            hasher.update(&buffer[..read]);
        }
    }

    fn affected(&self, column: &str, key: &Digest) -> Result<Vec<Digest>> {
        let database = self.database();
        let sql =
            format!("SELECT DISTINCT manifest FROM image_layer WHERE {column} = ? ORDER BY 1");
        let mut query = database.prepare(&sql)?;
        Ok(query
            .query_map([key], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?)
    }

    fn affected_by_document(&self, digest: &Digest) -> Result<Vec<Digest>> {
        let database = self.database();
        let mut query = database
            .prepare("SELECT manifest FROM image WHERE manifest = ?1 OR config = ?1 ORDER BY 1")?;
        Ok(query
            .query_map([digest], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?)
    }

    /// Takes damaged parts out of use together with the images that have them, whose names are kept: see
    /// [`Store::quarantined`].
    pub fn quarantine(&self, damaged: &[Damage]) -> Result<()> {
        self.lasting_transaction(|t| {
            for damage in damaged {
                for manifest in &damage.images {
                    t.execute(
                        "INSERT OR IGNORE INTO quarantine (manifest, name, resolved) \
                         SELECT manifest, coalesce(name, ''), coalesce(resolved, manifest) \
                         FROM image LEFT JOIN tag USING (manifest) WHERE manifest = ?",
                        [manifest],
                    )?;
                    t.execute("DELETE FROM image WHERE manifest = ?", [manifest])?;
                }
                let sql = match damage.kind {
                    "layer" => "DELETE FROM layer WHERE key = ?",
                    "blob" => "DELETE FROM blob WHERE digest = ?",
                    _ => "DELETE FROM document WHERE digest = ?",
                };
                t.execute(sql, [damage.key])?;
            }
            Ok(())
        })
    }

    /// Images that were taken out of use and not yet fetched again, each with its names.
    pub fn quarantined(&self) -> Result<BTreeMap<Digest, Vec<String>>> {
        let database = self.database();
        let mut query =
            database.prepare("SELECT manifest, name FROM quarantine ORDER BY manifest, name")?;
        let mut images = BTreeMap::new();
        for row in query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (manifest, name): (Digest, String) = row?;
            let names: &mut Vec<String> = images.entry(manifest).or_default();
            names.extend(Some(name).filter(|name| !name.is_empty()));
        }
        Ok(images)
    }

    /// Gives an image that was fetched again the names back that no other has taken meanwhile.
    pub fn restore(&self, manifest: &Digest) -> Result<()> {
        self.lasting_transaction(|t| {
            t.execute(
                "INSERT OR IGNORE INTO tag (name, manifest, resolved, updated) \
                 SELECT name, manifest, resolved, ?2 FROM quarantine WHERE manifest = ?1 AND name <> ''",
                params![manifest, now()],
            )?;
            t.execute("DELETE FROM quarantine WHERE manifest = ?", [manifest])?;
            Ok(())
        })
    }

    /// Gives up an image of that name or digest, if there is one in quarantine.
    pub(super) fn give_up(&self, text: &str) -> Result<Option<Digest>> {
        let name = text.parse::<Reference>().map(|name| name.to_string());
        self.lasting_transaction(|t| {
            let sql = "DELETE FROM quarantine WHERE manifest = ?1 OR name = ?2 RETURNING manifest";
            let mut query = t.prepare(sql)?;
            let gone = query.query_map([text, &name.unwrap_or_default()], |row| row.get(0))?;
            Ok(gone.last().transpose()?)
        })
    }
}
