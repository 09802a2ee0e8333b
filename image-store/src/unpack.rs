//! Turns a layer's archive into a layer on disk, in one pass.
//!
//! Names are resolved in the layer's own [`Tree`], clamped at its root; the [`Layout`] then makes them. Nothing here
//! knows of networks or of the store.

use crate::error::{At, Result, invalid};
use crate::layout::{Layout, Sealed, Warnings};
use crate::seal::Meta;
use crate::tar::{Entry, Kind, Reader};
use crate::tree::{Found, NAME, Node, NodeId, ROOT, Tree, clean};
use std::io::BufRead;
use std::os::fd::BorrowedFd;

type Name = Box<[u8]>;

/// A layer between its archive and its end.
#[derive(Debug)]
pub struct Unpacker {
    tree: Tree,
    layout: Layout,
    warnings: Warnings,
}

impl Unpacker {
    /// Unpacks into an empty layout.
    pub fn new(layout: Layout) -> Self {
        Self {
            tree: Tree::default(),
            layout,
            warnings: Warnings::default(),
        }
    }

    /// Reads the archive to the real end of its stream, and returns the stream.
    pub fn run<R: BufRead>(&mut self, source: R) -> Result<R> {
        let mut reader = Reader::new(source);
        while let Some(entry) = reader.next_entry()? {
            self.entry(&entry, &mut reader)
                .at(|| format!("entry {:?}", String::from_utf8_lossy(&entry.path)))?;
        }
        reader.drain()
    }

    /// Ends the layer over the layers below it, topmost first.
    pub fn finish(mut self, lowers: &[BorrowedFd<'_>]) -> Result<Sealed> {
        self.layout.finish(&mut self.tree, lowers, self.warnings)
    }

    /// Whether [`Self::finish`] has to see the layers below.
    pub fn needs_lowers(&self) -> bool {
        self.tree.is_incomplete()
    }

    fn entry<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        if matches!(entry.kind, Kind::Char) && entry.device == (0, 0) {
            return Err(invalid(
                "device 0:0 is overlay's own mark for a removed file",
            ));
        }
        let parts = clean(&entry.path);
        let Some((name, parents)) = parts.split_last() else {
            return self.root(entry);
        };
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(parents, hidden);
        }
        let parent = self.parent(parents)?;
        if entry.kind == Kind::HardLink {
            return self.hard_link(parent, name, &entry.link);
        }
        if entry.kind == Kind::Directory && self.update_directory(parent, name, entry)? {
            return Ok(());
        }
        self.replace(parent, name)?;
        match entry.kind {
            Kind::Directory => {
                self.layout.directory(&self.tree, parent, name)?;
                let id = self
                    .tree
                    .insert(parent, name, Node::Directory(Box::default()))?;
                let meta = self.meta(entry);
                self.tree.describe(id, meta)?;
            }
            Kind::File => {
                let leaf = self
                    .layout
                    .file((&self.tree, parent, name), entry, reader)?;
                self.tree.insert(parent, name, Node::Other(leaf, 1))?;
            }
            _ => {
                if let Some(leaf) = self.layout.node(&self.tree, parent, name, entry)? {
                    let node = match entry.kind {
                        Kind::Symlink => Node::Symlink(entry.link.as_slice().into(), leaf, 1),
                        _ => Node::Other(leaf, 1),
                    };
                    self.tree.insert(parent, name, node)?;
                }
            }
        }
        Ok(())
    }

    /// The metadata of a directory as it will stand.
    fn meta(&mut self, entry: &Entry) -> Meta {
        let Layout::Dirs(dirs) = &mut self.layout;
        dirs.meta(entry)
    }

    /// At the root only a directory's metadata can apply.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind == Kind::Directory {
            let meta = self.meta(entry);
            self.tree.describe(ROOT, meta)?;
        } else {
            self.warnings.roots += 1;
        }
        Ok(())
    }

    fn whiteout(&mut self, parents: &[Name], hidden: &[u8]) -> Result<()> {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(invalid("whiteout hides no name"));
        }
        if hidden == b".wh..opq" {
            let parent = self.parent(parents)?;
            self.tree.directory_mut(parent)?.opaque = true;
        } else if !hidden.starts_with(b".wh.") {
            // The rest of that prefix is for notes of an old union file system, which mean nothing here.
            let parent = self.parent(parents)?;
            self.tree.charge(NAME + hidden.len())?;
            self.tree
                .directory_mut(parent)?
                .whiteouts
                .insert(hidden.into());
        }
        Ok(())
    }

    /// The directory of an entry, made if the archive only implies it.
    fn parent(&mut self, parts: &[Name]) -> Result<NodeId> {
        let missing = match self.tree.lookup_directory(parts)? {
            Found::Node(id) => return Ok(id),
            Found::Missing(path) => path,
        };
        let mut at = ROOT;
        for part in &missing {
            at = match self.tree.child(at, part) {
                Some(next) => next,
                None => {
                    self.layout.directory(&self.tree, at, part)?;
                    self.tree
                        .insert(at, part, Node::Directory(Box::default()))?
                }
            };
        }
        // A dangling link can lead through a name that is taken by a file.
        self.tree.directory(at)?;
        Ok(at)
    }

    /// A directory over a directory only changes its metadata.
    fn update_directory(&mut self, parent: NodeId, name: &[u8], entry: &Entry) -> Result<bool> {
        let Some(id) = self.tree.child(parent, name) else {
            return Ok(false);
        };
        let Node::Directory(directory) = self.tree.node(id) else {
            return Ok(false);
        };
        self.warnings.duplicates += u64::from(directory.meta.is_some());
        let meta = self.meta(entry);
        self.tree.describe(id, meta)?;
        Ok(true)
    }

    fn replace(&mut self, parent: NodeId, name: &[u8]) -> Result<()> {
        let Some(id) = self.tree.child(parent, name) else {
            return Ok(());
        };
        self.warnings.duplicates += 1;
        if !matches!(self.tree.node(id), Node::Pending(_)) {
            self.layout.remove(&self.tree, parent, name)?;
        }
        self.tree.remove(parent, name)
    }

    fn hard_link(&mut self, parent: NodeId, name: &Name, target: &[u8]) -> Result<()> {
        let target = clean(target);
        let found = self.tree.lookup(&target)?;
        let missing = match found {
            Found::Missing(path) => path,
            Found::Node(id) => match self.tree.node(id) {
                Node::Directory(_) => return Err(invalid("hard link leads to a directory")),
                Node::Pending(path) => path.clone(),
                _ if self.tree.child(parent, name) == Some(id) => {
                    return Err(invalid("hard link leads to itself"));
                }
                _ => return self.link_to(parent, name, &target, id),
            },
        };
        if missing == clean(&[&self.tree.path(parent), &b"/"[..], name].concat()) {
            return Err(invalid("hard link leads to itself"));
        }
        self.replace(parent, name)?;
        self.tree.insert(parent, name, Node::Pending(missing))?;
        Ok(())
    }

    fn link_to(&mut self, parent: NodeId, name: &Name, target: &[Name], id: NodeId) -> Result<()> {
        let (first, holder) = target
            .split_last()
            .ok_or_else(|| invalid("hard link leads to the root"))?;
        let Found::Node(holder) = self.tree.lookup_directory(holder)? else {
            return Err(invalid("hard link leads nowhere"));
        };
        self.replace(parent, name)?;
        self.layout
            .link(&self.tree, (holder, first), (parent, name))?;
        self.tree.link(parent, name, id)
    }
}
