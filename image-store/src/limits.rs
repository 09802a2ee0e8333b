//! Budgets on everything that comes from an image or a registry. Each constant is enforced where it is named.

/// Largest manifest, index or config in bytes.
pub const DOCUMENT: u64 = 4 << 20;
/// Largest token answer in bytes.
pub const TOKEN: u64 = 1 << 20;
/// How much of an error answer is read.
pub const ERROR_BODY: u64 = 64 << 10;
/// Deepest nesting of a JSON document.
pub const JSON_DEPTH: usize = 64;
/// Most layers of one image.
pub const LAYERS: usize = 1024;
/// Most entries of one index.
pub const INDEX_ENTRIES: usize = 1000;
/// Indexes inside indexes.
pub const INDEX_NESTING: usize = 2;
/// Most entries in one layer.
pub const ENTRIES: u64 = 2_000_000;
/// Largest memory for the names, links and directories' attributes of one layer, in bytes.
pub const TREE: u64 = 256 << 20;
/// Largest layer when unpacked, in bytes; holes of sparse files count.
pub const LAYER_BYTES: u64 = 64 << 30;
/// Largest block of PAX records before one entry.
pub const PAX: u64 = 1 << 20;
/// Longest path of an entry.
pub const PATH: usize = 4096;
/// Longest component of a path.
pub const COMPONENT: usize = 255;
/// Longest target of a link.
pub const LINK: usize = 4095;
/// Most pieces of a sparse file.
pub const SPARSE_EXTENTS: usize = 64 << 10;
/// Largest value of one extended attribute.
pub const XATTR_VALUE: usize = 64 << 10;
/// Most extended attributes of one entry.
pub const XATTRS: usize = 128;
/// Largest sum of one entry's extended attributes.
pub const XATTR_BYTES: usize = 1 << 20;
/// Largest window a zstd frame may ask for, as a power of two: 128 MiB.
pub const ZSTD_WINDOW_LOG: u32 = 27;
