//! The tree of one layer in memory: names, links between them, and directories' metadata.
//!
//! Every name of an archive is resolved here, inside the layer alone and clamped at its root, before any call on the
//! file system; a layout is then only told to make plain names in directories that exist. About 130 bytes an entry, and
//! never more than [`limits::TREE`] in all.

use crate::error::{Result, invalid, limit};
use crate::limits;
use crate::seal::{Leaf, Meta};
use std::collections::{BTreeMap, BTreeSet};

/// The index of a node.
pub type NodeId = usize;
/// The root directory.
pub const ROOT: NodeId = 0;
/// What a name takes in a directory's table beside its own bytes: two words, the node, and what allocation adds.
pub const NAME: usize = 64;
/// How many symbolic links one lookup follows.
const HOPS: usize = 40;

type Name = Box<[u8]>;

/// A directory of the layer.
#[derive(Debug, Default)]
pub struct Directory {
    /// Its parent; the root is its own.
    pub parent: NodeId,
    /// Its name in the parent.
    pub name: Name,
    /// What the archive says about it; nothing if it is only implied by a longer path.
    pub meta: Option<Meta>,
    /// Names in it.
    pub children: BTreeMap<Name, NodeId>,
    /// Names of lower layers that it hides.
    pub whiteouts: BTreeSet<Name>,
    /// Whether it hides all names of lower layers.
    pub opaque: bool,
}

/// An inode of the layer.
#[derive(Debug)]
pub enum Node {
    /// A directory.
    Directory(Box<Directory>),
    /// A symbolic link, its digest and its count of names.
    Symlink(Box<[u8]>, Leaf, u32),
    /// A file or node, its digest and its count of names.
    Other(Leaf, u32),
    /// A hard link to a name that only a lower layer can have: the resolved path of the target.
    Pending(Vec<Name>),
    /// Was replaced by a later entry.
    Removed,
}

/// The layer.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    /// Bytes that entries took so far; those of replaced ones count too.
    taken: u64,
}

/// Where a lookup inside the layer ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// At this node.
    Node(NodeId),
    /// Nowhere in this layer; this is the path with all links of this layer resolved.
    Missing(Vec<Name>),
}

/// The components of a path: `.` and empty ones dropped, `..` applied, never above the root.
pub fn clean(path: &[u8]) -> Vec<Name> {
    let mut parts: Vec<Name> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            name => parts.push(name.into()),
        }
    }
    parts
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            nodes: vec![Node::Directory(Box::default())],
            taken: 0,
        }
    }
}

impl Tree {
    /// The node of this index.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// Changes the node of this index.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id]
    }

    /// The directory of this index.
    pub fn directory(&self, id: NodeId) -> Result<&Directory> {
        match &self.nodes[id] {
            Node::Directory(directory) => Ok(directory),
            _ => Err(invalid(
                "a directory of the archive was replaced while in use",
            )),
        }
    }

    /// The directory of this index, to change it.
    pub fn directory_mut(&mut self, id: NodeId) -> Result<&mut Directory> {
        match &mut self.nodes[id] {
            Node::Directory(directory) => Ok(directory),
            _ => Err(invalid(
                "a directory of the archive was replaced while in use",
            )),
        }
    }

    /// The node of a name in a directory.
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.nodes[parent] {
            Node::Directory(directory) => directory.children.get(name).copied(),
            _ => None,
        }
    }

    /// Counts memory that an entry takes beside its name.
    pub fn charge(&mut self, bytes: usize) -> Result<()> {
        self.taken += bytes as u64;
        if self.taken > limits::TREE {
            return Err(limit(format!(
                "names and attributes of the layer take more than {} bytes",
                limits::TREE
            )));
        }
        Ok(())
    }

    /// Sets the metadata that the archive has of a directory.
    pub fn describe(&mut self, id: NodeId, meta: Meta) -> Result<()> {
        let xattrs = meta.xattrs.iter();
        self.charge(xattrs.map(|(name, value)| name.len() + value.len()).sum())?;
        self.directory_mut(id)?.meta = Some(meta);
        Ok(())
    }

    /// Puts a new node at a name that is free.
    pub fn insert(&mut self, parent: NodeId, name: &[u8], mut node: Node) -> Result<NodeId> {
        let more = match &node {
            // Its name is kept twice.
            Node::Directory(_) => size_of::<Directory>() + name.len(),
            Node::Symlink(target, ..) => target.len(),
            Node::Pending(path) => path.iter().map(|part| part.len() + 32).sum(),
            Node::Other(..) | Node::Removed => 0,
        };
        self.charge(size_of::<Node>() + NAME + name.len() + more)?;
        if let Node::Directory(directory) = &mut node {
            directory.parent = parent;
            directory.name = name.into();
        }
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.directory_mut(parent)?.children.insert(name.into(), id);
        Ok(id)
    }

    /// Gives a node that is no directory another name.
    pub fn link(&mut self, parent: NodeId, name: &[u8], target: NodeId) -> Result<()> {
        self.charge(NAME + name.len())?;
        match &mut self.nodes[target] {
            Node::Symlink(_, _, links) | Node::Other(_, links) => *links += 1,
            Node::Directory(_) | Node::Pending(_) | Node::Removed => {
                return Err(invalid(
                    "target of a hard link is a directory or not there yet",
                ));
            }
        }
        self.directory_mut(parent)?
            .children
            .insert(name.into(), target);
        Ok(())
    }

    /// Takes a name away, with everything below it.
    pub fn remove(&mut self, parent: NodeId, name: &[u8]) -> Result<()> {
        let Some(first) = self.directory_mut(parent)?.children.remove(name) else {
            return Ok(());
        };
        let mut doomed = vec![first];
        while let Some(id) = doomed.pop() {
            match &mut self.nodes[id] {
                Node::Symlink(_, _, links) | Node::Other(_, links) if *links > 1 => *links -= 1,
                node => {
                    if let Node::Directory(directory) = std::mem::replace(node, Node::Removed) {
                        doomed.extend(directory.children.into_values());
                    }
                }
            }
        }
        Ok(())
    }

    /// The path of a directory from the root; empty for the root.
    pub fn path(&self, mut id: NodeId) -> Vec<u8> {
        let mut parts = Vec::new();
        while let (true, Node::Directory(directory)) = (id != ROOT, &self.nodes[id]) {
            parts.push(&directory.name[..]);
            id = directory.parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// Looks up a directory, following symbolic links of this layer.
    pub fn lookup_directory(&self, parts: &[Name]) -> Result<Found> {
        let mut todo: Vec<Name> = parts.iter().rev().cloned().collect();
        let mut at = ROOT;
        let mut hops = 0;
        while let Some(part) = todo.pop() {
            if &*part == b".." {
                at = self.directory(at)?.parent;
                continue;
            }
            let Some(next) = self.child(at, &part) else {
                let goes_back = todo.iter().any(|part| &**part == b"..");
                let path = self.missing(at, part, todo);
                if !goes_back {
                    return Ok(Found::Missing(path));
                }
                // Back out of what does not exist: as words, and then once more from the root.
                hops += 1;
                if hops > HOPS {
                    return Err(limit("path goes through too many symbolic links"));
                }
                at = ROOT;
                todo = path.into_iter().rev().collect();
                continue;
            };
            match &self.nodes[next] {
                Node::Directory(_) => at = next,
                Node::Symlink(target, ..) => {
                    hops += 1;
                    if hops > HOPS {
                        return Err(limit("path goes through too many symbolic links"));
                    }
                    if target.first() == Some(&b'/') {
                        at = ROOT;
                    }
                    let parts = target
                        .split(|b| *b == b'/')
                        .filter(|part| !matches!(*part, b"" | b"."));
                    todo.extend(parts.rev().map(Name::from));
                }
                _ => {
                    let shown = String::from_utf8_lossy(&part).into_owned();
                    return Err(invalid(format!(
                        "path goes through {shown:?}, which is not a directory"
                    )));
                }
            }
        }
        Ok(Found::Node(at))
    }

    /// What is left of a path below a directory, with `..` applied as words: those parts do not exist here.
    fn missing(&self, at: NodeId, part: Name, todo: Vec<Name>) -> Vec<Name> {
        let mut path = self.path(at);
        for name in std::iter::once(part).chain(todo.into_iter().rev()) {
            path.push(b'/');
            path.extend_from_slice(&name);
        }
        clean(&path)
    }

    /// Looks up a name without following it if it is a symbolic link itself.
    pub fn lookup(&self, parts: &[Name]) -> Result<Found> {
        let Some((name, parents)) = parts.split_last() else {
            return Ok(Found::Node(ROOT));
        };
        match self.lookup_directory(parents)? {
            Found::Missing(mut path) => {
                path.push(name.clone());
                Ok(Found::Missing(path))
            }
            Found::Node(parent) => Ok(self.child(parent, name).map_or_else(
                || {
                    let mut path = clean(&self.path(parent));
                    path.push(name.clone());
                    Found::Missing(path)
                },
                Found::Node,
            )),
        }
    }

    /// Whether a directory is only implied, or a hard link leads to a lower layer: then the layers below decide.
    ///
    /// An implied root alone counts too: its mode may come from below.
    pub fn is_incomplete(&self) -> bool {
        self.nodes.iter().any(|node| match node {
            Node::Directory(directory) => directory.meta.is_none(),
            Node::Pending(_) => true,
            _ => false,
        })
    }

    /// Fails if a path in this layer would be deeper than a file system call can name.
    pub fn check_depth(&self, id: NodeId) -> Result<()> {
        if self.path(id).len() > limits::PATH - limits::COMPONENT - 2 {
            return Err(limit(format!(
                "directory is deeper than {} bytes of path",
                limits::PATH
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_budget() {
        let mut tree = Tree::default();
        let target = vec![b'x'; limits::LINK];
        let mut count: u64 = 0;
        let error = loop {
            let node = Node::Symlink(target.as_slice().into(), [0; 32], 1);
            match tree.insert(ROOT, format!("{count}").as_bytes(), node) {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("take more than"), "{error}");
        assert!(count * limits::LINK as u64 > limits::TREE / 2);
        assert!(tree.describe(ROOT, Meta::default()).is_err());
    }

    fn parts(path: &str) -> Vec<Name> {
        clean(path.as_bytes())
    }

    #[test]
    fn paths_are_clamped() {
        for (path, clean) in [
            ("a/b", "a/b"),
            ("/a//b/.", "a/b"),
            ("../a", "a"),
            ("a/../../b", "b"),
            ("", ""),
            ("./", ""),
            ("a/..", ""),
        ] {
            assert_eq!(parts(path), parts(clean), "{path}");
        }
    }

    #[test]
    fn lookups_stay_inside_and_end() {
        let mut tree = Tree::default();
        let link = |target: &str| Node::Symlink(target.as_bytes().into(), [0; 32], 1);
        let etc = tree
            .insert(ROOT, b"etc", Node::Directory(Box::default()))
            .unwrap();
        tree.insert(ROOT, b"up", link("../../../etc")).unwrap();
        tree.insert(ROOT, b"absolute", link("/etc/")).unwrap();
        tree.insert(ROOT, b"loop", link("loop")).unwrap();
        tree.insert(ROOT, b"dead", link("x/../../y")).unwrap();
        tree.insert(etc, b"file", Node::Other([0; 32], 1)).unwrap();
        assert_eq!(
            tree.lookup_directory(&parts("up")).unwrap(),
            Found::Node(etc)
        );
        assert_eq!(
            tree.lookup_directory(&parts("absolute")).unwrap(),
            Found::Node(etc)
        );
        assert_eq!(
            tree.lookup_directory(&parts("dead/z")).unwrap(),
            Found::Missing(parts("y/z"))
        );
        assert!(tree.lookup_directory(&parts("loop/a")).is_err());
        assert!(tree.lookup_directory(&parts("etc/file/a")).is_err());
        assert_eq!(
            tree.lookup(&parts("up/none")).unwrap(),
            Found::Missing(parts("etc/none"))
        );
    }

    #[test]
    fn removing_a_name_keeps_the_inode_for_its_other_names() {
        let mut tree = Tree::default();
        let file = tree.insert(ROOT, b"a", Node::Other([0; 32], 1)).unwrap();
        tree.link(ROOT, b"b", file).unwrap();
        tree.remove(ROOT, b"a").unwrap();
        assert!(matches!(tree.node(file), Node::Other(_, 1)));
        tree.remove(ROOT, b"b").unwrap();
        assert!(matches!(tree.node(file), Node::Removed));
    }
}
