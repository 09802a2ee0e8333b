//! The seal of an unpacked layer: one digest over all names, metadata and contents.
//!
//! It is computed while a layer is unpacked, kept in the database, and computed again from the disk by `fsck`, which
//! thereby finds damage although the compressed layer was not kept. Entries go in sorted by name, directories before
//! their content; all but the first name of an inode go in as a link to the first.

use crate::tar::Time;

/// The metadata of an inode as it stands on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change.
    pub mtime: Time,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The part of an inode that depends on its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// A directory, and whether it hides what lower layers have at its path.
    Directory {
        /// Whether lower layers are hidden.
        opaque: bool,
    },
    /// A regular file: its size and the BLAKE3 of its content.
    File(u64, [u8; 32]),
    /// A symbolic link's target.
    Symlink(&'a [u8]),
    /// A character device.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// The mark that hides a name of lower layers; its metadata does not count.
    Whiteout,
}

/// The digest of one inode.
pub type Leaf = [u8; 32];

/// The digest of metadata and body together.
pub fn leaf(meta: &Meta, body: Body<'_>) -> Leaf {
    let mut hasher = blake3::Hasher::new();
    if body == Body::Whiteout {
        return *hasher.update(b"w").finalize().as_bytes();
    }
    for number in [meta.mode, meta.uid, meta.gid, meta.mtime.nanos] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(&meta.mtime.seconds.to_le_bytes());
    bytes(&mut hasher, &meta.xattrs.len().to_le_bytes());
    for (name, value) in &meta.xattrs {
        bytes(&mut hasher, name);
        bytes(&mut hasher, value);
    }
    match body {
        Body::Directory { opaque } => hasher.update(if opaque { b"o" } else { b"d" }),
        Body::File(size, content) => hasher
            .update(b"f")
            .update(&size.to_le_bytes())
            .update(&content),
        Body::Symlink(target) => hasher.update(b"l").update(target),
        Body::Char(major, minor) => hasher
            .update(b"c")
            .update(&major.to_le_bytes())
            .update(&minor.to_le_bytes()),
        Body::Block(major, minor) => hasher
            .update(b"b")
            .update(&major.to_le_bytes())
            .update(&minor.to_le_bytes()),
        Body::Fifo => hasher.update(b"p"),
        Body::Whiteout => &mut hasher,
    };
    *hasher.finalize().as_bytes()
}

fn bytes(hasher: &mut blake3::Hasher, data: &[u8]) {
    hasher
        .update(&(data.len() as u64).to_le_bytes())
        .update(data);
}

/// Collects the inodes of a layer in order.
#[derive(Debug, Default)]
pub struct Sealer {
    hasher: blake3::Hasher,
}

impl Sealer {
    /// The first name of an inode.
    pub fn add(&mut self, path: &[u8], leaf: &Leaf) {
        bytes(&mut self.hasher, path);
        self.hasher.update(b"=").update(leaf);
    }

    /// A further name of the inode that was added as `first`.
    pub fn link(&mut self, path: &[u8], first: &[u8]) {
        bytes(&mut self.hasher, path);
        self.hasher.update(b">");
        bytes(&mut self.hasher, first);
    }

    /// The seal in hexadecimal digits.
    pub fn finish(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}

/// Whether an extended attribute is kept when a layer is unpacked.
///
/// `trusted.*` and `user.overlay.*` would be orders to the overlay file system, the security modules' labels belong to
/// the host.
pub fn is_kept(name: &[u8]) -> bool {
    let is_user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    is_user || name == b"security.capability" || name.starts_with(b"system.posix_acl_")
}
