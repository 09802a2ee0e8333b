//! The file work on a directory of our own: no resctrl was at hand, and what the kernel makes in a group is made here.

use std::fs;
use std::path::Path;

use super::*;

fn written() -> IntelRdt {
    IntelRdt::default()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn request(written: &IntelRdt) -> Request {
    Request::compile(Some(written)).unwrap().unwrap()
}

#[test]
fn requests() {
    assert_eq!(Request::compile(None).unwrap(), None);
    let refused = [
        (
            IntelRdt {
                clos_id: text("."),
                ..written()
            },
            "closID",
        ),
        (
            IntelRdt {
                clos_id: text(".."),
                ..written()
            },
            "closID",
        ),
        (
            IntelRdt {
                clos_id: text("a/b"),
                ..written()
            },
            "closID",
        ),
        (
            IntelRdt {
                clos_id: text("/a"),
                ..written()
            },
            "closID",
        ),
        (
            IntelRdt {
                mem_bw_schema: text("L3:0=f"),
                ..written()
            },
            "memBwSchema",
        ),
        (
            IntelRdt {
                mem_bw_schema: text("MB:0=1\nMB:1=2"),
                ..written()
            },
            "memBwSchema",
        ),
        (
            IntelRdt {
                schemata: Some(vec!["L2:0=f".into(), "L3:0=f\n".into()]),
                ..written()
            },
            "schemata/1",
        ),
    ];
    for (written, pointer) in refused {
        let error = Request::compile(Some(&written)).unwrap_err();
        let pointer = format!("/linux/intelRdt/{pointer}");
        assert_eq!(error.pointer(), Some(pointer.as_str()), "{written:?}");
    }
}

#[test]
fn lines_in_their_order() {
    let all = IntelRdt {
        l3_cache_schema: text("L3:0=f"),
        mem_bw_schema: text("MB:0=20"),
        schemata: Some(vec!["L2:0=3".into(), String::new(), "L3:1=f0".into()]),
        ..written()
    };
    let schemata = request(&all).schemata();
    assert_eq!(schemata, ["L3:0=f\nMB:0=20\n", "L2:0=3\nL3:1=f0\n"]);
    let empty = IntelRdt {
        l3_cache_schema: text(""),
        schemata: Some(Vec::new()),
        ..written()
    };
    assert_eq!(request(&empty).schemata(), Vec::<String>::new());
}

#[test]
fn shares_are_compared_by_what_they_mean() {
    let present = "    L3:0=7f0;1=1f\nL3CODE:0=f\n    MB:0= 30;1=100\n";
    for (wanted, granularity, expected) in [
        ("L3:0=7f0;1=1f", 10, true),
        ("L3:1=01F; 0=7F0 ;", 10, true),
        ("L3:0=7f0", 10, true),
        ("L3:0=7f", 10, false),
        ("L3:2=7f0", 10, false),
        ("L3:0=7f0\nL3CODE:0=f", 10, true),
        ("L3DATA:0=f", 10, false),
        ("MB:0=30;1=100", 10, true),
        ("MB:0=21", 10, true),
        ("MB:0=21", 0, false),
        ("MB:0=20", 10, false),
        ("MB:0=1e", 10, false),
        ("L3:0", 10, false),
        ("none", 10, false),
    ] {
        assert_eq!(
            agrees(wanted, present, granularity),
            expected,
            "{wanted:?} {granularity}"
        );
    }
}

#[test]
fn the_mount_is_found_in_a_table() {
    let line = |path: &str, kind: &str| {
        format!("36 35 98:0 /mnt1 {path} rw,noatime shared:1 master:2 - {kind} none rw\n")
    };
    let table = [
        line("/proc", "proc"),
        line("/a\\040b/\\134", "resctrl"),
        line("/c", "resctrl"),
    ]
    .concat();
    assert_eq!(mount_in(table.as_bytes()), Some("/a b/\\".into()));
    assert_eq!(mount_in(line("/resctrl", "tmpfs").as_bytes()), None);
    assert_eq!(
        mount_in(b"\nshort line\n1 2 3 4 /x - resctrl"),
        Some("/x".into())
    );
}

/// A directory in the place of the mount.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(tree.path("info/MB")).unwrap();
        fs::write(tree.path("info/MB/bandwidth_gran"), "10\n").unwrap();
        tree
    }

    /// A group as the kernel makes it.
    fn with_group(name: &str, schemata: &str) -> Self {
        let tree = Self::new();
        fs::create_dir_all(tree.path(name).join("mon_groups")).unwrap();
        fs::write(tree.path(name).join("schemata"), schemata).unwrap();
        tree
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn group(&self, request: &Request) -> Group {
        let root = open_root(self.0.path()).unwrap();
        Group::of(root.as_fd(), self.0.path().to_owned(), request, "id")
    }

    fn enter(&self, written: &IntelRdt) -> Result<Group> {
        let request = request(written);
        let group = self.group(&request);
        group.enter(&request, Pid::from_raw(7)).map(|()| group)
    }

    /// What the kernel does by itself when a group is removed.
    fn empty(&self, name: &str) {
        for entry in fs::read_dir(self.path(name)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::remove_file(path).unwrap();
            }
        }
    }
}

fn names(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn a_group_of_its_own_comes_and_goes() {
    let tree = Tree::new();
    let shares = IntelRdt {
        l3_cache_schema: text("L3:0=f"),
        ..written()
    };
    let group = tree.enter(&shares).unwrap();
    assert_eq!(
        (tree.read("id/tasks"), tree.read("id/schemata")),
        ("7".into(), "L3:0=f\n".into())
    );
    group.add(Pid::from_raw(8)).unwrap();
    assert_eq!(tree.read("id/tasks"), "8");
    group.change(Some("L3:0=3"), Some("MB:0=50")).unwrap();
    assert_eq!(tree.read("id/schemata"), "L3:0=3\nMB:0=50\n");
    tree.empty("id");
    group.remove().unwrap();
    assert_eq!(names(tree.0.path()), ["info"]);
    // Nothing is left to do, nor to join.
    group.remove().unwrap();
    group.add(Pid::from_raw(9)).unwrap();
    assert_eq!(names(tree.0.path()), ["info"]);
}

#[test]
fn a_directory_of_its_name_that_was_there_stays() {
    let tree = Tree::with_group("id", "");
    fs::remove_dir(tree.path("id/mon_groups")).unwrap();
    let group = tree.enter(&written()).unwrap();
    tree.empty("id");
    group.remove().unwrap();
    assert_eq!(names(tree.0.path()), ["id", "info"]);
}

#[test]
fn a_shared_group_must_be_there_or_get_shares() {
    let class = IntelRdt {
        clos_id: text("gold"),
        ..written()
    };
    let tree = Tree::new();
    let error = tree.enter(&class).unwrap_err().to_string();
    let words = "unable to apply Intel RDT configuration: clos dir not accessible (must be pre-created when ";
    assert!(
        error.starts_with(words) && error.ends_with("(ENOENT)"),
        "{error}"
    );
    let shares = IntelRdt {
        l3_cache_schema: text("L3:0=f"),
        ..class.clone()
    };
    let group = tree.enter(&shares).unwrap();
    assert_eq!(tree.read("gold/schemata"), "L3:0=f\n");
    tree.empty("gold");
    group.remove().unwrap();
    assert!(tree.path("gold").is_dir(), "it may be others' too");
    let group = tree.enter(&class).unwrap();
    assert_eq!(tree.read("gold/tasks"), "7");
    assert_eq!(group.name, "gold");
}

#[test]
fn a_shared_group_has_the_shares_that_are_asked_for() {
    let tree = Tree::with_group("gold", "L3:0=ff\nMB:0=30\n");
    let class = IntelRdt {
        clos_id: text("gold"),
        ..written()
    };
    let with = |cache: &str, bandwidth: &str| IntelRdt {
        l3_cache_schema: text(cache),
        mem_bw_schema: text(bandwidth),
        ..class.clone()
    };
    for (wanted, pointer) in [
        (with("L3:0=f", ""), "/linux/intelRdt/l3CacheSchema"),
        (with("L3:0=ff", "MB:0=40"), "/linux/intelRdt/memBwSchema"),
    ] {
        let error = tree.enter(&wanted).unwrap_err();
        assert_eq!(error.pointer(), Some(pointer));
        assert!(!tree.path("gold/tasks").exists(), "{error}");
    }
    assert_eq!(tree.read("gold/schemata"), "L3:0=ff\nMB:0=30\n");
    tree.enter(&with("L3:0=0ff", "MB:0=25")).unwrap();
    assert_eq!(tree.read("gold/schemata"), "L3:0=0ff\nMB:0=25\n");
}

#[test]
fn the_group_of_all() {
    let tree = Tree::new();
    let group = tree
        .enter(&IntelRdt {
            clos_id: text("/"),
            ..written()
        })
        .unwrap();
    assert_eq!(tree.read("tasks"), "7");
    group.remove().unwrap();
    assert_eq!(names(tree.0.path()), ["info", "tasks"]);
}

#[test]
fn a_monitoring_group_goes_with_the_container() {
    let tree = Tree::with_group("gold", "");
    let counted = IntelRdt {
        clos_id: text("gold"),
        enable_monitoring: true,
        ..written()
    };
    let group = tree.enter(&counted).unwrap();
    assert_eq!(tree.read("gold/mon_groups/id/tasks"), "7");
    group.add(Pid::from_raw(8)).unwrap();
    assert_eq!(
        (
            tree.read("gold/tasks"),
            tree.read("gold/mon_groups/id/tasks")
        ),
        ("8".into(), "8".into())
    );
    tree.empty("gold/mon_groups/id");
    group.remove().unwrap();
    assert_eq!(names(&tree.path("gold/mon_groups")), Vec::<String>::new());
}

#[test]
fn what_failed_leaves_nothing_and_says_why() {
    let tree = Tree::new();
    fs::write(tree.path("info/last_cmd_status"), "Out of RMIDs\n").unwrap();
    // The kernel would have made mon_groups.
    let error = tree
        .enter(&IntelRdt {
            enable_monitoring: true,
            ..written()
        })
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("(ENOENT); last_cmd_status: Out of RMIDs"),
        "{error}"
    );
    assert_eq!(names(tree.0.path()), ["info"]);
}

#[test]
fn parts_that_resctrl_lacks_are_named() {
    let tree = Tree::new();
    let root = open_root(tree.0.path()).unwrap();
    let check = |written: &IntelRdt| request(written).check_parts(root.as_fd());
    let cache = IntelRdt {
        l3_cache_schema: text("L3:0=f"),
        ..written()
    };
    let words = "intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled";
    assert_eq!(check(&cache).unwrap_err().to_string(), words);
    check(&IntelRdt {
        mem_bw_schema: text("MB:0=10"),
        ..written()
    })
    .unwrap();
    fs::create_dir(tree.path("info/L3DATA")).unwrap();
    check(&cache).unwrap();
}
