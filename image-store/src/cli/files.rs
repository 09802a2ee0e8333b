//! Commands that give an image's files to the world: unpack, bundle, mount.

use super::show;
use image_store::layout::remove::remove_all;
use image_store::materialize::{materialize, open_empty};
use image_store::mount::{self, Access};
use image_store::store::Lease;
use image_store::store::images::Image;
use image_store::{Error, Result, Store, bundle};
use rustix::fs::OFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// The layers of an image, bottom first, held against removal as long as the guard lives.
pub fn layers(store: &Arc<Store>, image: &str) -> Result<(Vec<OwnedFd>, Lease, Image)> {
    let lease = store.lease()?;
    let image = store.image(&store.resolve(image)?)?;
    let missing = |key| {
        Error::new(
            image_store::ErrorKind::NotFound,
            format!("layer {key} is not there"),
        )
    };
    let open = |key| {
        lease.layer(key)?.ok_or_else(|| missing(key))?;
        store.open_layer(key)
    };
    let layers = image.layers.iter().map(open).collect::<Result<_>>()?;
    Ok((layers, lease, image))
}

/// Writes into `dir`; what was written goes again if that fails.
fn write(store: &Arc<Store>, image: &str, target: &OwnedFd) -> Result<Image> {
    let (layers, _lease, image) = layers(store, image)?;
    let layers = layers.iter().map(AsFd::as_fd).collect::<Vec<_>>();
    let written = materialize(&layers, target.as_fd());
    if written.is_err() {
        for name in image_store::layout::remove::names(target.as_fd())? {
            remove_all(target.as_fd(), &name)?;
        }
    }
    written.map(|()| image)
}

pub fn unpack(store: &Arc<Store>, image: &str, dir: &Path) -> Result<()> {
    write(store, image, &open_empty(dir)?).map(drop)
}

pub fn bundle(store: &Arc<Store>, image: &str, dir: &Path) -> Result<()> {
    drop(open_empty(dir)?);
    let rootfs = open_empty(&dir.join("rootfs"))?;
    let made = write(store, image, &rootfs).and_then(|image| {
        let mut spec = bundle::spec(&image.parsed_config, rootfs.as_fd(), "rootfs")?;
        if !rustix::process::geteuid().is_root() {
            bundle::make_rootless(&mut spec);
        }
        let file = dir.join("config.json");
        std::fs::write(&file, format!("{spec:#}\n"))
            .map_err(|e| Error::os(format!("write {file:?}"), &e))
    });
    if made.is_err() {
        std::fs::remove_dir_all(dir.join("rootfs"))
            .map_err(|e| Error::os(format!("remove {dir:?}"), &e))?;
    }
    made
}

/// The lease that holds the layers of a mount.
fn holder(target: &Path) -> Result<String> {
    let target = target
        .canonicalize()
        .map_err(|e| Error::os(format!("resolve {target:?}"), &e))?;
    Ok(format!("mount-{}", target.display()))
}

/// A read-only view of the union of layers (bottom first).
pub fn view(store: &Store, layers: &[OwnedFd]) -> Result<OwnedFd> {
    let lowers = layers.iter().rev().map(AsFd::as_fd).collect::<Vec<_>>();
    let empty = store.open_path("empty", OFlags::RDONLY | OFlags::DIRECTORY)?;
    mount::overlay(&lowers, empty.as_fd(), Access::ReadOnly)
}

pub fn open_dir(dir: &Path) -> Result<OwnedFd> {
    std::fs::File::open(dir)
        .map(OwnedFd::from)
        .map_err(|e| Error::os(format!("open {dir:?}"), &e))
}

pub fn diff(store: &Arc<Store>, image: &str, dir: &Path, is_json: bool) -> Result<()> {
    let (layers, _lease, _) = layers(store, image)?;
    let changes = image_store::diff::diff(view(store, &layers)?.as_fd(), open_dir(dir)?.as_fd())?;
    let shown = |path: &[u8]| format!("/{}", String::from_utf8_lossy(path));
    if is_json {
        let list = changes
            .iter()
            .map(|c| serde_json::json!({"kind": c.kind, "path": shown(&c.path)}));
        return show::json(&list.collect::<Vec<_>>());
    }
    for change in &changes {
        let letter = match change.kind {
            image_store::diff::Kind::Added => 'A',
            image_store::diff::Kind::Changed => 'C',
            image_store::diff::Kind::Deleted => 'D',
        };
        show::line(&format!("{letter} {}", shown(&change.path)))?;
    }
    Ok(())
}

/// How an image is mounted.
#[derive(Debug, Clone, Copy)]
pub struct How<'a> {
    /// What takes changes.
    pub upper: Option<&'a Path>,
    /// Whose maps say who owns the files.
    pub userns: Option<&'a Path>,
}

pub fn mount(store: &Arc<Store>, image: &str, target: &Path, how: How<'_>) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        let text = "a mount of an ordinary user ends with this program; unpack the image instead";
        return Err(Error::new(image_store::ErrorKind::Unsupported, text));
    }
    let (mut layers, _lease, image) = layers(store, image)?;
    layers.reverse();
    if let Some(userns) = how.userns {
        let namespace = open_dir(userns)?;
        layers = layers
            .iter()
            .map(|layer| mount::mapped(layer.as_fd(), namespace.as_fd()))
            .collect::<Result<_>>()?;
    }
    let lowers = layers.iter().map(AsFd::as_fd).collect::<Vec<_>>();
    let empty = store.open_path("empty", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let dirs = match how.upper {
        None => None,
        Some(upper) => Some((
            mount::open_or_make(upper)?,
            mount::open_or_make(&upper.with_extension("work"))?,
        )),
    };
    let access = dirs
        .as_ref()
        .map_or(Access::Volume, |(upper, work)| Access::ReadWrite {
            upper: upper.as_fd(),
            work: work.as_fd(),
        });
    let mounted = mount::overlay(&lowers, empty.as_fd(), access)?;
    let holder = holder(target)?;
    store.hold(&holder, &image.layers)?;
    let attached = mount::attach(&mounted, target);
    if attached.is_err() {
        store.release(&holder)?;
    }
    attached
}

pub fn umount(store: &Arc<Store>, target: &Path) -> Result<()> {
    let holder = holder(target)?;
    mount::detach(target)?;
    store.release(&holder)
}
