//! Promises of a mount's options.

use super::{check_error, config, lines};
use crate::kernel::mount::{Attributes as A, Change};
use crate::plan::mounts::{Kind, compile, option_names};
use crate::plan::namespaces::Namespaces;
use crate::spec;

/// What sets an attribute, what clears it, and which it is.
const ATTRIBUTES: [(&str, &str, A); 6] = [
    ("ro", "rw", A::RDONLY),
    ("nosuid", "suid", A::NOSUID),
    ("nodev", "dev", A::NODEV),
    ("noexec", "exec", A::NOEXEC),
    ("nodiratime", "diratime", A::NODIRATIME),
    ("nosymfollow", "symfollow", A::NOSYMFOLLOW),
];

pub(super) fn check(bytes: &[u8]) {
    let Some(mut lines) = lines(bytes) else {
        return;
    };
    let kind = lines.next().map(str::to_owned);
    let destination = lines.next().unwrap_or_default().to_owned();
    let options: Vec<String> = lines.map(str::to_owned).collect();
    let written = spec::Mount {
        destination,
        kind,
        source: Some("/source".to_owned()),
        options: Some(options.clone()),
        ..spec::Mount::default()
    };
    let namespaces = Namespaces::compile(&spec::Linux::default()).unwrap();
    let mut warnings = Vec::new();
    let mounts = match compile(&[written], &namespaces, &mut warnings) {
        Ok(mounts) => mounts,
        Err(error) => return check_error(&error),
    };
    assert!(warnings.iter().all(|text| !text.contains('\n')));
    let mount = &mounts[0];
    config::mounts(mount);
    for (on, off, attribute) in ATTRIBUTES {
        the_last_word(&options, (on, off), mount.change, attribute);
        let recursive = (format!("r{on}"), format!("r{off}"));
        let words = (recursive.0.as_str(), recursive.1.as_str());
        the_last_word(&options, words, mount.recursive, attribute);
    }
    if let Kind::New { parameters, .. } = &mount.kind {
        parameters_are_foreign(&options, parameters.len());
    }
}

fn the_last_word(options: &[String], (on, off): (&str, &str), change: Change, attribute: A) {
    let last = options.iter().rev().find(|one| *one == on || *one == off);
    let found = (
        change.set.contains(attribute),
        change.clear.contains(attribute),
    );
    let is_on = last.is_some_and(|one| one == on);
    assert_eq!(found, (is_on, last.is_some() && !is_on), "{options:?}");
}

/// What is no option of ours goes to the file system, all of it and nothing else.
fn parameters_are_foreign(options: &[String], count: usize) {
    let passed_on = [
        "acl",
        "dirsync",
        "iversion",
        "lazytime",
        "mand",
        "noacl",
        "sync",
        "userxattr",
    ];
    let foreign = options
        .iter()
        .filter(|one| !option_names().any(|known| known == *one))
        .flat_map(|one| one.split(','))
        .filter(|one| !one.is_empty())
        .count();
    let named = options
        .iter()
        .filter(|one| passed_on.contains(&one.as_str()))
        .count();
    // Read-only is for the file system too.
    assert!((foreign + named..=foreign + named + 1).contains(&count));
}
