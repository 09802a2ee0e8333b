//! The end of a layer: links into the layers below, metadata of implied directories, marks of what is hidden, the seal.

use super::{Dirs, OPAQUE, disk_of, open_below, shown};
use crate::error::{Context, Result, invalid};
use crate::layout::{Sealed, Warnings, lower, measure};
use crate::seal::{self, Body, Meta, Sealer};
use crate::tar::Time;
use crate::tree::{Found, Node, NodeId, ROOT, Tree};
use rustix::fs::{FileType, Mode, OFlags, XattrFlags, fsetxattr, mknodat};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

impl Dirs {
    /// See [`crate::layout::Layout::finish`].
    pub fn finish(
        &mut self,
        tree: &mut Tree,
        lowers: &[BorrowedFd<'_>],
        warnings: Warnings,
    ) -> Result<Sealed> {
        self.resolve_links(tree, lowers)?;
        self.inherit(tree, lowers)?;
        let mut sealer = Sealer::default();
        let mut seen = HashMap::new();
        self.close_directory(tree, ROOT, &mut Vec::new(), &mut sealer, &mut seen)?;
        let (mut disk, mut inodes) = (self.disk, self.inodes + 1);
        if self.is_miscounted {
            let there = measure::layer(self.root.as_fd())?;
            (disk, inodes) = (there.disk, there.inodes);
        }
        Ok(Sealed {
            seal: sealer.finish(),
            is_chained: self.is_chained,
            disk,
            inodes,
            warnings: Warnings {
                xattrs: self.warnings.xattrs,
                nodes: self.warnings.nodes,
                ..warnings
            },
        })
    }

    /// Copies up the files of lower layers that this layer links to.
    fn resolve_links(&mut self, tree: &mut Tree, lowers: &[BorrowedFd<'_>]) -> Result<()> {
        let mut todo = Vec::new();
        let mut stack = vec![ROOT];
        while let Some(id) = stack.pop() {
            for (name, child) in &tree.directory(id)?.children {
                match tree.node(*child) {
                    Node::Directory(_) => stack.push(*child),
                    Node::Pending(target) => todo.push((id, name.clone(), target.clone())),
                    _ => {}
                }
            }
        }
        for (parent, name, target) in todo {
            let absent = || {
                let path = target.join(&b'/');
                invalid(format!(
                    "hard link {:?}: no such file {:?} in this or a lower layer",
                    shown(&name),
                    shown(&path)
                ))
            };
            let (lower, path) =
                lower::find(lowers, &target, lower::Links::Follow)?.ok_or_else(absent)?;
            self.is_chained = true;
            let place = match tree.lookup(&path)? {
                Found::Node(node) => node,
                Found::Missing(path) => self
                    .copy_up(tree, lowers[lower], &path)
                    .map_err(|e| e.at(shown(&name)))?,
            };
            let (holder, first) = path
                .split_last()
                .ok_or_else(absent)
                .map(|(first, holder)| (holder, first))?;
            let Found::Node(holder) = tree.lookup_directory(holder)? else {
                return Err(absent());
            };
            tree.remove(parent, &name)?;
            self.link(tree, (holder, first), (parent, &name))?;
            tree.link(parent, &name, place)?;
        }
        Ok(())
    }

    fn copy_up(
        &mut self,
        tree: &mut Tree,
        lower: BorrowedFd<'_>,
        path: &[Box<[u8]>],
    ) -> Result<NodeId> {
        let (name, parents) = path
            .split_last()
            .ok_or_else(|| invalid("link to the root"))?;
        let mut at = ROOT;
        for part in parents {
            at = match tree.child(at, part) {
                Some(next) => next,
                None => {
                    self.directory(tree, at, part)?;
                    tree.insert(at, part, Node::Directory(Box::default()))?
                }
            };
        }
        let dir = self.fd(tree, at)?.try_clone_to_owned().call(|| "dup")?;
        let from = open_below(
            lower,
            &parents.join(&b'/'),
            OFlags::PATH | OFlags::DIRECTORY,
        )
        .call(|| "openat2(lower)")?;
        lower::copy(from.as_fd(), dir.as_fd(), name)?;
        let measured = measure::inode(dir.as_fd(), name)?;
        self.disk += measured.disk;
        self.inodes += 1;
        let node = match measured.symlink {
            Some(target) => Node::Symlink(target.into(), measured.leaf, 1),
            None => Node::Other(measured.leaf, 1),
        };
        tree.insert(at, name, node)
    }

    /// Gives directories that the archive only implies the metadata of the lower layers.
    fn inherit(&mut self, tree: &mut Tree, lowers: &[BorrowedFd<'_>]) -> Result<()> {
        let mut plain = Meta {
            mode: 0o755,
            ..Meta::default()
        };
        if !self.privileged {
            plain.uid = rustix::process::geteuid().as_raw();
            plain.gid = rustix::process::getegid().as_raw();
        }
        let mut stack = vec![ROOT];
        while let Some(id) = stack.pop() {
            hide_lowers(tree, id)?;
            let directory = tree.directory(id)?;
            let children = directory.children.values().copied().collect::<Vec<_>>();
            stack.extend(
                children
                    .into_iter()
                    .filter(|child| matches!(tree.node(*child), Node::Directory(_))),
            );
            if directory.meta.is_some() {
                continue;
            }
            let path = crate::tree::clean(&tree.path(id));
            let hidden = is_hidden(tree, id)?;
            let mut found = plain.clone();
            if !hidden && let Some(meta) = lower::directory_meta(lowers, &path)? {
                found = meta;
                if id == ROOT {
                    // Nobody relies on the time of the root, and most layers imply theirs.
                    found.mtime = Time::default();
                }
            }
            self.is_chained |= found != plain;
            tree.directory_mut(id)?.meta = Some(found);
        }
        Ok(())
    }

    fn close_directory(
        &mut self,
        tree: &Tree,
        id: NodeId,
        path: &mut Vec<u8>,
        sealer: &mut Sealer,
        seen: &mut HashMap<NodeId, Vec<u8>>,
    ) -> Result<()> {
        let directory = tree.directory(id)?;
        let readable = open_below(self.root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)
            .call(|| format!("openat2(layer, {:?})", shown(path)))?;
        let hidden = directory
            .whiteouts
            .iter()
            .filter(|name| !directory.children.contains_key(*name));
        for name in hidden.clone() {
            mknodat(
                &readable,
                &name[..],
                FileType::CharacterDevice,
                Mode::empty(),
                0,
            )
            .call(|| format!("mknodat({:?}, whiteout)", shown(name)))?;
        }
        let mut meta = directory.meta.clone().unwrap_or_default();
        if directory.opaque {
            self.mark_opaque(&readable)?;
        }
        self.apply(&readable, &mut meta)?;
        self.disk += disk_of(readable.as_fd())?;
        // Closed before the walk goes down: a deep tree would need too many, and what happens below changes no time here.
        drop(readable);
        sealer.add(
            path,
            &seal::leaf(
                &meta,
                Body::Directory {
                    opaque: directory.opaque,
                },
            ),
        );
        let mut names: Vec<(&[u8], Option<NodeId>)> =
            hidden.map(|name| (&name[..], None)).collect();
        names.extend(
            directory
                .children
                .iter()
                .map(|(name, child)| (&name[..], Some(*child))),
        );
        names.sort_unstable();
        let length = path.len();
        for (name, child) in names {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            match child.map(|child| (child, tree.node(child))) {
                None => sealer.add(path, &seal::leaf(&Meta::default(), Body::Whiteout)),
                Some((child, Node::Directory(_))) => {
                    self.close_directory(tree, child, path, sealer, seen)?;
                }
                Some((child, Node::Symlink(_, leaf, links) | Node::Other(leaf, links))) => {
                    match seen.get(&child) {
                        Some(first) => sealer.link(path, first),
                        None => {
                            sealer.add(path, leaf);
                            if *links > 1 {
                                seen.insert(child, path.clone());
                            }
                        }
                    }
                }
                Some((_, Node::Pending(_) | Node::Removed)) => {
                    return Err(invalid("layer tree is broken"));
                }
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn mark_opaque(&mut self, fd: &OwnedFd) -> Result<()> {
        let name = OPAQUE[usize::from(!self.privileged)];
        match fsetxattr(fd, name, b"y", XattrFlags::empty()) {
            // Root of a user namespace may not set trusted attributes; overlay then reads the user ones.
            Err(rustix::io::Errno::PERM) => fsetxattr(fd, OPAQUE[1], b"y", XattrFlags::empty()),
            done => done,
        }
        .call(|| format!("fsetxattr({name})"))
    }
}

/// A directory whose name is also hidden by a whiteout of this layer starts anew: it hides what is below it.
fn hide_lowers(tree: &mut Tree, id: NodeId) -> Result<()> {
    let directory = tree.directory(id)?;
    let hidden = directory
        .whiteouts
        .iter()
        .filter_map(|name| directory.children.get(name).copied());
    for child in hidden.collect::<Vec<_>>() {
        if let Node::Directory(child) = tree.node_mut(child) {
            child.opaque = true;
        }
    }
    Ok(())
}

fn is_hidden(tree: &Tree, mut id: NodeId) -> Result<bool> {
    while id != ROOT {
        let directory = tree.directory(id)?;
        let parent = tree.directory(directory.parent)?;
        if directory.opaque || parent.opaque || parent.whiteouts.contains(&directory.name) {
            return Ok(true);
        }
        id = directory.parent;
    }
    Ok(false)
}
