//! How a verified layer stands on disk. One enum, because a second form (file objects under one merged metadata image)
//! is to follow; everything above speaks only of this.

mod content;
pub mod dirs;
pub mod lower;
pub mod measure;
pub mod remove;
mod room;

use crate::error::Result;
use crate::seal::Leaf;
use crate::tar::{Entry, Reader};
use crate::tree::{NodeId, Tree};
use std::io::BufRead;
use std::os::fd::{BorrowedFd, OwnedFd};

/// What could not be kept of a layer, counted; none of it is an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Warnings {
    /// Extended attributes that are not for containers, or that the file system refused.
    pub xattrs: u64,
    /// Device nodes left out for want of privilege.
    pub nodes: u64,
    /// Names that the archive has more than once.
    pub duplicates: u64,
    /// Entries for the root that were no directories.
    pub roots: u64,
}

/// What a layer came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The digest over names, metadata and contents, see [`crate::seal`].
    pub seal: String,
    /// Whether it took metadata or files from the layers below and so belongs to them.
    pub is_chained: bool,
    /// Bytes of disk, as the file system counts them.
    pub disk: u64,
    /// Count of inodes.
    pub inodes: u64,
    /// What was left out.
    pub warnings: Warnings,
}

/// The form in which layers are kept.
#[derive(Debug)]
pub enum Layout {
    /// One directory a layer, mounted as a lower layer of an overlay.
    Dirs(Box<dirs::Dirs>),
}

impl Layout {
    /// Begins a layer in the empty directory `root`, whose descriptor it takes.
    pub fn dirs(root: OwnedFd) -> Self {
        Self::Dirs(Box::new(dirs::Dirs::new(root)))
    }

    /// Makes a directory; its metadata is set at the end.
    pub fn directory(&mut self, tree: &Tree, parent: NodeId, name: &[u8]) -> Result<()> {
        match self {
            Self::Dirs(dirs) => dirs.directory(tree, parent, name),
        }
    }

    /// Writes a file with the body that `reader` stands at.
    pub fn file<R: BufRead>(
        &mut self,
        at: (&Tree, NodeId, &[u8]),
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<Leaf> {
        match self {
            Self::Dirs(dirs) => dirs.file(at, entry, reader),
        }
    }

    /// Makes a symbolic link, a device or a pipe; nothing if that was not permitted.
    pub fn node(
        &mut self,
        tree: &Tree,
        parent: NodeId,
        name: &[u8],
        entry: &Entry,
    ) -> Result<Option<Leaf>> {
        match self {
            Self::Dirs(dirs) => dirs.node((tree, parent, name), entry),
        }
    }

    /// Gives a file another name.
    pub fn link(&mut self, tree: &Tree, from: (NodeId, &[u8]), to: (NodeId, &[u8])) -> Result<()> {
        match self {
            Self::Dirs(dirs) => dirs.link(tree, from, to),
        }
    }

    /// Takes a name away, with everything below it.
    pub fn remove(&mut self, tree: &Tree, parent: NodeId, name: &[u8]) -> Result<()> {
        match self {
            Self::Dirs(dirs) => dirs.remove(tree, parent, name),
        }
    }

    /// Ends the layer. `lowers` are the directories of the layers below it, topmost first.
    pub fn finish(
        &mut self,
        tree: &mut Tree,
        lowers: &[BorrowedFd<'_>],
        warnings: Warnings,
    ) -> Result<Sealed> {
        match self {
            Self::Dirs(dirs) => dirs.finish(tree, lowers, warnings),
        }
    }
}
