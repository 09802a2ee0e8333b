//! What tests of `ocirun-image` stand on: archives with any header, images and layouts made of them, stores that go away,
//! registries that misbehave as told.

use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

mod archive;
mod attack;
mod bed;
mod depot;
mod dice;
mod image;
mod registry;

pub use archive::{Entry, Header, Tar, checksum, entries, gzip, noise};
pub use attack::{attack, content, refused, succeeds};
pub use bed::{Bed, listing};
pub use depot::Depot;
pub use dice::Dice;
pub use image::{Image, program, small};
pub use registry::{Answer, FakeRegistry, Request, honest};

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
