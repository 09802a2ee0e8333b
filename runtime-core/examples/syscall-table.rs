//! Writes `src/plan/seccomp/table.rs`: names and numbers of system calls, from the kernel's headers as the crate
//! `linux-raw-sys` carries them for every architecture.
//!
//! ```sh
//! cargo run -p runtime-core --example syscall-table -- <unpacked linux-raw-sys>/src | rustfmt \
//!     > runtime-core/src/plan/seccomp/table.rs
//! ```
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::{env, fs, io};

/// Directories of the crate, in the order of the table's columns.
const COLUMNS: [&str; 10] = [
    "x86_64",
    "x86",
    "x32",
    "aarch64",
    "arm",
    "riscv64",
    "loongarch64",
    "powerpc",
    "powerpc64",
    "s390x",
];
const X32_SYSCALL_BIT: u32 = 1 << 30;
const ARM_PRIVATE: u32 = 0xf_0000;
const ABSENT: u16 = 0xffff;

fn main() -> io::Result<()> {
    let sources = env::args()
        .nth(1)
        .ok_or_else(|| io::Error::other("usage: syscall-table <unpacked linux-raw-sys>/src"))?;
    let mut calls: BTreeMap<String, [u16; COLUMNS.len()]> = BTreeMap::new();
    for (column, directory) in COLUMNS.iter().enumerate() {
        let header = Path::new(&sources).join(directory).join("general.rs");
        for (name, number) in fs::read_to_string(header)?.lines().filter_map(definition) {
            calls
                .entry(name.to_owned())
                .or_insert([ABSENT; COLUMNS.len()])[column] = number;
        }
    }
    print(&calls)
}

/// The name and the number, in the table's form, of a line that defines a system call.
fn definition(line: &str) -> Option<(&str, u16)> {
    let line = line.strip_prefix("pub const __")?;
    let (name, number) = line.strip_suffix(';')?.split_once(": u32 = ")?;
    let name = name
        .strip_prefix("NR_")
        .or_else(|| name.strip_prefix("ARM_NR_"))?;
    let is_call = name.bytes().all(|byte| !byte.is_ascii_uppercase());
    let number = number.parse::<u32>().ok().filter(|_| is_call)?;
    let short = match number & !X32_SYSCALL_BIT {
        private if private & ARM_PRIVATE == ARM_PRIVATE => private - ARM_PRIVATE + 0xf000,
        number => number,
    };
    Some((name, u16::try_from(short).ok()?))
}

fn print(calls: &BTreeMap<String, [u16; COLUMNS.len()]>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let names: String = calls.keys().map(String::as_str).collect();
    writeln!(
        out,
        "//! Names and numbers of system calls. Generated: see `examples/syscall-table.rs`.\n\n\
         /// How many names there are.\npub(super) const COUNT: usize = {};\n\n\
         /// All names in the order of their bytes, without anything between.\n\
         pub(super) static NAMES: &str = \"{}\";\n",
        calls.len(),
        split(&names)
    )?;
    writeln!(
        out,
        "/// Where each name ends in [`NAMES`].\npub(super) static ENDS: [u16; COUNT] = ["
    )?;
    let mut end = 0;
    for name in calls.keys() {
        end += name.len();
        write!(out, "{end},")?;
    }
    writeln!(
        out,
        "];\n\n/// A name's numbers, by the column of the architecture: {}.\n\
         /// 0xffff where there is none; 0xf000 + n is ARM's private 0xf0000 + n; x32's are without their bit 30.\n\
         #[rustfmt::skip]\npub(super) static NUMBERS: [[u16; {}]; COUNT] = [",
        COLUMNS.join(", "),
        COLUMNS.len()
    )?;
    for (name, numbers) in calls {
        let numbers: Vec<String> = numbers
            .iter()
            .map(|number| match *number {
                ABSENT => "0xffff".to_owned(),
                private if private > 0xf000 => format!("{private:#x}"),
                number => number.to_string(),
            })
            .collect();
        writeln!(out, "    [{}], // {name}", numbers.join(", "))?;
    }
    writeln!(out, "];")
}

/// Continues a long literal on the next line, every hundred characters.
fn split(text: &str) -> String {
    text.as_bytes()
        .chunks(100)
        .map(String::from_utf8_lossy)
        .collect::<Vec<_>>()
        .join("\\\n")
}
