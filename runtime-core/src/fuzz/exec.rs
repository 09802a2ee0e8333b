//! Promises of what `exec` is told on its command line.

use std::path::Path;

use super::{check_error, lines};
use crate::cgroup::SubCgroup;
use crate::plan::capabilities::{self, NAMES, Sets};
use crate::spec::{self, Capabilities};

pub(super) fn check(bytes: &[u8]) {
    let Some(mut lines) = lines(bytes) else {
        return;
    };
    user(lines.next().unwrap_or_default());
    cgroups(lines.next().unwrap_or_default());
    let names: Vec<&str> = lines.collect();
    grants(&names);
}

/// Digits, and digits again behind one colon: anything else is nobody.
fn user(text: &str) {
    let id = |part: &str| {
        let mut id: u64 = 0;
        for byte in part.bytes() {
            let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
            id = (id * 10 + u64::from(digit)).min(1 << 40);
        }
        (!part.is_empty() && id < u64::from(u32::MAX)).then(|| u32::try_from(id).unwrap())
    };
    let expected = match text.split(':').collect::<Vec<_>>()[..] {
        [uid] => id(uid).map(|uid| (uid, 7)),
        [uid, gid] => id(uid).zip(id(gid)),
        _ => None,
    };
    let found = spec::user_from_text(text, 7);
    if let Err(error) = &found {
        check_error(error);
    }
    assert_eq!(found.ok(), expected, "{text:?}");
}

/// No cgroup is above the container's.
fn cgroups(text: &str) {
    let values: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let sub = match SubCgroup::parse(&values) {
        Ok(sub) => sub,
        Err(error) => return check_error(&error),
    };
    let own = Path::new("/sys/fs/cgroup/own");
    for controllers in ["memory", "cpu,cpuacct", "name=systemd", ""] {
        let below = sub.below(own, controllers);
        assert!(below.starts_with(own), "{below:?}");
        let leads_up = below.iter().any(|name| name == "..");
        assert!(!leads_up, "{below:?}");
    }
}

/// A process gets what it had and what is named, and nothing inheritable.
fn grants(names: &[&str]) {
    let mut written = Capabilities {
        bounding: Some(vec!["CAP_KILL".to_owned()]),
        inheritable: Some(vec!["CAP_NET_RAW".to_owned()]),
        ..Capabilities::default()
    };
    let mut warnings = Vec::new();
    let before = Sets::compile(Some(&written), &mut warnings);
    for name in names {
        written.grant(name);
    }
    let after = Sets::compile(Some(&written), &mut warnings);
    let mut asked = 0;
    for name in names {
        let upper = name.to_ascii_uppercase();
        let known = NAMES
            .iter()
            .position(|known| *known == upper || known.strip_prefix("CAP_") == Some(&upper));
        assert_eq!(
            capabilities::number(name).map(|n| n as usize),
            known,
            "{name:?}"
        );
        asked |= known.map_or(0, |number| 1_u64 << number);
    }
    assert_eq!(after.inheritable, before.inheritable);
    assert_eq!(after.bounding, before.bounding | asked);
    assert_eq!((after.effective, after.permitted), (asked, asked));
    assert_eq!(after.ambient & !after.inheritable, 0);
    assert!(warnings.iter().all(|text| !text.contains('\n')));
}
