//! The initial RAM disk: a cpio archive of the "newc" format, uncompressed, as the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst describes it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;
/// Major and minor number of /dev/console.
const CONSOLE: (u32, u32) = (5, 1);

/// Writes an archive with `init` as its first program, and these modules.
///
/// # Errors
/// Those of the file system.
pub fn write(to: &Path, init: &Path, modules: &Path) -> io::Result<()> {
    let mut archive = Archive {
        file: io::BufWriter::new(fs::File::create(to)?),
        count: 0,
    };
    for name in ["dev", "modules"] {
        archive.entry(name, DIRECTORY, (0, 0), &[])?;
    }
    // The kernel opens it for the first program before devtmpfs is mounted.
    archive.entry("dev/console", CHARACTER_DEVICE, CONSOLE, &[])?;
    archive.entry("init", PROGRAM, (0, 0), &fs::read(init)?)?;
    for entry in fs::read_dir(modules)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        archive.entry(
            &format!("modules/{name}"),
            PROGRAM,
            (0, 0),
            &fs::read(&path)?,
        )?;
    }
    archive.entry("TRAILER!!!", 0, (0, 0), &[])?;
    archive.file.flush()
}

struct Archive<W> {
    file: W,
    count: u32,
}

impl<W: Write> Archive<W> {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), body: &[u8]) -> io::Result<()> {
        self.count += 1;
        let size = u32::try_from(body.len()).map_err(io::Error::other)?;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        // inode, mode, uid, gid, links, mtime, size, device of the file system, device of the node, name, check sum
        let fields = [
            self.count, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        write!(self.file, "070701")?;
        for field in fields {
            write!(self.file, "{field:08x}")?;
        }
        self.file.write_all(name.as_bytes())?;
        self.file.write_all(&[0])?;
        self.pad(110 + name.len() + 1)?;
        self.file.write_all(body)?;
        self.pad(body.len())
    }

    /// Header with name, and body, each end at a multiple of four.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        let missing = written.next_multiple_of(4) - written;
        self.file.write_all(&[0; 3][..missing])
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn entries_begin_at_multiples_of_four() {
        let mut archive = Archive {
            file: Vec::new(),
            count: 0,
        };
        for (name, body) in [("a", "x"), ("ab", "xyz"), ("abcdef", "")] {
            archive.entry(name, 0, (0, 0), body.as_bytes()).unwrap();
            assert_eq!(archive.file.len() % 4, 0, "{name}");
        }
        let text = String::from_utf8_lossy(&archive.file);
        assert_eq!(text.matches("070701").count(), 3);
    }
}
