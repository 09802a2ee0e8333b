//! The flags of `checkpoint` and `restore`: what CRIU is to do.

use super::super::Takes::{Nothing, Value, Values};
use super::{
    BUNDLE, CONSOLE_SOCKET, DETACH, Flag, NO_PIVOT, NO_SUBREAPER, PID_FILE, PIDFD_SOCKET, flag,
};

const WORK_PATH: Flag = flag(
    "work-path",
    None,
    Value,
    "path for saving work files and logs",
);
const TCP_ESTABLISHED: Flag = flag(
    "tcp-established",
    None,
    Nothing,
    "allow open tcp connections",
);
const EXT_UNIX_SK: Flag = flag("ext-unix-sk", None, Nothing, "allow external unix sockets");
const SHELL_JOB: Flag = flag("shell-job", None, Nothing, "allow shell jobs");
const LAZY_PAGES: Flag = flag(
    "lazy-pages",
    None,
    Nothing,
    "use userfaultfd to lazily restore memory pages",
);
const FILE_LOCKS: Flag = flag("file-locks", None, Nothing, "handle file locks, for safety");
const MANAGE_CGROUPS: Flag = flag(
    "manage-cgroups-mode",
    None,
    Value,
    "cgroups mode: 'soft' (default), 'full', 'strict' and 'ignore'",
);
const EMPTY_NS: Flag = flag(
    "empty-ns",
    None,
    Values,
    "create a namespace, but don't restore its properties: 'network'",
);
const AUTO_DEDUP: Flag = flag(
    "auto-dedup",
    None,
    Nothing,
    "enable auto deduplication of memory images",
);

pub(super) const CHECKPOINT: &[Flag] = &[
    flag(
        "image-path",
        None,
        Value,
        "path for saving criu image files (default: \"checkpoint\")",
    ),
    WORK_PATH,
    flag(
        "parent-path",
        None,
        Value,
        "path for previous criu image files in pre-dump, relative to --image-path",
    ),
    flag(
        "leave-running",
        None,
        Nothing,
        "leave the process running after checkpointing",
    ),
    TCP_ESTABLISHED,
    flag(
        "tcp-skip-in-flight",
        None,
        Nothing,
        "skip in-flight tcp connections",
    ),
    flag(
        "link-remap",
        None,
        Nothing,
        "remap deleted files by links, made beside where they were",
    ),
    EXT_UNIX_SK,
    SHELL_JOB,
    LAZY_PAGES,
    flag(
        "status-fd",
        None,
        Value,
        "a NUL is written to this FD once lazy-pages is ready (default: -1)",
    ),
    flag(
        "page-server",
        None,
        Value,
        "ADDRESS:PORT of the page server",
    ),
    FILE_LOCKS,
    flag(
        "pre-dump",
        None,
        Nothing,
        "dump container's memory information only, leave the container running after this",
    ),
    MANAGE_CGROUPS,
    EMPTY_NS,
    AUTO_DEDUP,
];

pub(super) const RESTORE: &[Flag] = &[
    CONSOLE_SOCKET,
    PIDFD_SOCKET,
    flag(
        "image-path",
        None,
        Value,
        "path to criu image files for restoring (default: \"checkpoint\")",
    ),
    WORK_PATH,
    TCP_ESTABLISHED,
    EXT_UNIX_SK,
    SHELL_JOB,
    FILE_LOCKS,
    MANAGE_CGROUPS,
    BUNDLE,
    DETACH,
    PID_FILE,
    NO_SUBREAPER,
    Flag {
        help: "taken from callers and without effect: CRIU makes the root as it was",
        ..NO_PIVOT
    },
    EMPTY_NS,
    AUTO_DEDUP,
    LAZY_PAGES,
    flag(
        "lsm-profile",
        None,
        Value,
        "Specify an LSM profile to be used during restore in the form of TYPE:NAME.",
    ),
    flag(
        "lsm-mount-context",
        None,
        Value,
        "Specify an LSM mount context to be used during restore.",
    ),
];
