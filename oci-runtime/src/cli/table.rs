//! All commands and flags.

mod criu;
mod update;

use super::Takes;
use super::Takes::{Nothing, Number, Value, Values};

/// A flag.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Without dashes.
    pub(crate) name: &'static str,
    /// A shorter name.
    pub(crate) short: Option<&'static str>,
    pub(crate) takes: Takes,
    /// One line.
    pub(crate) help: &'static str,
}

/// A command.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// One line.
    pub(crate) about: &'static str,
    /// What stands behind the flags.
    pub(crate) usage: &'static str,
    /// Paragraphs.
    pub(crate) description: &'static str,
    pub(crate) flags: &'static [Flag],
    pub(crate) arguments: Arguments,
    /// Whether what follows the first argument belongs to another program.
    pub(crate) rest_is_foreign: bool,
    /// Whether another program does all of it, flags included.
    pub(crate) is_other_program: bool,
    /// Whether help leaves it out.
    pub(crate) hidden: bool,
}

/// How many arguments a command takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arguments {
    Exactly(usize),
    Minimum(usize),
    Between(usize, usize),
}

impl Arguments {
    /// Says what is wrong with `count` arguments.
    pub(super) fn check(self, command: &str, count: usize) -> Result<(), String> {
        let text = match self {
            Self::Exactly(wanted) if count != wanted => {
                format!("requires exactly {wanted} argument(s)")
            }
            Self::Minimum(least) | Self::Between(least, _) if count < least => {
                format!("requires a minimum of {least} argument(s)")
            }
            Self::Between(_, most) if count > most => {
                format!("requires a maximum of {most} argument(s)")
            }
            _ => return Ok(()),
        };
        Err(format!("{command:?} {text}"))
    }
}

const fn flag(
    name: &'static str,
    short: Option<&'static str>,
    takes: Takes,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        short,
        takes,
        help,
    }
}

/// Flags before the command.
pub(crate) const GLOBAL: &[Flag] = &[
    flag("debug", None, Nothing, "enable debug logging"),
    flag(
        "log",
        None,
        Value,
        "set the log file to write logs to, or journald:[IDENTIFIER] or syslog:[IDENTIFIER] (default is '/dev/stderr')",
    ),
    flag(
        "log-format",
        None,
        Value,
        "set the log format ('text' (default), or 'json') (default: \"text\")",
    ),
    flag(
        "root",
        None,
        Value,
        "root directory for storage of container state (this should be located in tmpfs)",
    ),
    flag(
        "criu",
        None,
        Value,
        "taken from callers of old and without effect: criu is found by PATH",
    ),
    flag(
        "systemd-cgroup",
        None,
        Nothing,
        "enable systemd cgroup support, expects cgroupsPath to be of form \"slice:prefix:name\" for e.g. \
         \"system.slice:runc:434234\"",
    ),
    flag(
        "rootless",
        None,
        Value,
        "ignore cgroup permission errors ('true', 'false', or 'auto') (default: \"auto\")",
    ),
    flag("version", Some("v"), Nothing, "print the version"),
];

const BUNDLE: Flag = flag(
    "bundle",
    Some("b"),
    Value,
    "path to the root of the bundle directory, defaults to the current directory",
);
const CONFIG: Flag = flag(
    "config",
    Some("f"),
    Value,
    "configuration to use in place of the bundle's config.json",
);
const CONSOLE_SOCKET: Flag = flag(
    "console-socket",
    None,
    Value,
    "path to an AF_UNIX socket which will receive a file descriptor referencing the master end of the console's \
     pseudoterminal",
);
const PIDFD_SOCKET: Flag = flag(
    "pidfd-socket",
    None,
    Value,
    "path to an AF_UNIX socket which will receive a file descriptor of the process",
);
const PID_FILE: Flag = flag(
    "pid-file",
    None,
    Value,
    "specify the file to write the process id to",
);
const DETACH: Flag = flag(
    "detach",
    Some("d"),
    Nothing,
    "detach from the container's process",
);
const NO_SUBREAPER: Flag = flag(
    "no-subreaper",
    None,
    Nothing,
    "disable the use of the subreaper used to reap reparented processes",
);
const NO_PIVOT: Flag = flag(
    "no-pivot",
    None,
    Nothing,
    "do not use pivot root to jail process inside rootfs.  This should be used whenever the rootfs is on top of a \
     ramdisk",
);
const NO_NEW_KEYRING: Flag = flag(
    "no-new-keyring",
    None,
    Nothing,
    "do not create a new session keyring for the container",
);
const INIT: Flag = flag(
    "init",
    None,
    Nothing,
    "put ocirun-init in front of the program, which reaps and forwards signals",
);
const PRESERVE_FDS: Flag = flag(
    "preserve-fds",
    None,
    Number,
    "Pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total) (default: 0)",
);
const REGEX: Flag = flag(
    "regex",
    Some("r"),
    Nothing,
    "the argument is a regular expression, for all containers in whose ids it is found",
);
const FORMAT: Flag = flag(
    "format",
    Some("f"),
    Value,
    "select one of: table or json (default: \"table\")",
);

const fn simple(name: &'static str, about: &'static str, description: &'static str) -> Command {
    Command {
        name,
        about,
        usage: "<container-id>",
        description,
        flags: &[],
        arguments: Arguments::Exactly(1),
        rest_is_foreign: false,
        is_other_program: false,
        hidden: false,
    }
}

/// All commands, in the order of the help.
pub(crate) const COMMANDS: &[Command] = &[
    Command {
        flags: criu::CHECKPOINT,
        ..simple(
            "checkpoint",
            "checkpoint a running container",
            "Has CRIU, which must be installed, write the container's processes to files, and removes the container \
             unless it is to go on.",
        )
    },
    Command {
        usage: "<container-id> | <bundle>",
        flags: &[
            BUNDLE,
            CONFIG,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            INIT,
        ],
        ..simple(
            "create",
            "create a container",
            "Makes a container from a bundle: a directory with a config.json and a root file system. Its program waits \
             for the start command.\nA single argument that is a directory with a config.json is the bundle; the id is \
             then made from its name, and printed.",
        )
    },
    Command {
        flags: &[
            flag(
                "force",
                Some("f"),
                Nothing,
                "Forcibly deletes the container if it is still running (uses SIGKILL)",
            ),
            REGEX,
        ],
        ..simple(
            "delete",
            "delete any resources held by the container often used with detached container",
            "Removes a container that has stopped, or whose program was never started.",
        )
    },
    Command {
        usage: "<container-id> <command> [command options]  || -p process.json <container-id>",
        arguments: Arguments::Minimum(1),
        rest_is_foreign: true,
        flags: &[
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            flag(
                "cwd",
                None,
                Value,
                "current working directory in the container",
            ),
            flag("env", Some("e"), Values, "set environment variables"),
            flag("tty", Some("t"), Nothing, "allocate a pseudo-TTY"),
            flag("user", Some("u"), Value, "UID (format: <uid>[:<gid>])"),
            flag("additional-gids", Some("g"), Values, "additional gids"),
            flag("process", Some("p"), Value, "path to the process.json"),
            DETACH,
            PID_FILE,
            flag(
                "process-label",
                None,
                Value,
                "set the asm process label for the process commonly used with selinux",
            ),
            flag(
                "apparmor",
                None,
                Value,
                "set the apparmor profile for the process",
            ),
            flag(
                "no-new-privs",
                None,
                Nothing,
                "set the no new privileges value for the process",
            ),
            flag(
                "cap",
                Some("c"),
                Values,
                "add a capability to the bounding set for the process",
            ),
            PRESERVE_FDS,
            flag(
                "cgroup",
                None,
                Values,
                "run the process in an (existing) sub-cgroup(s). Format is [<controller>:]<cgroup>.",
            ),
            flag(
                "ignore-paused",
                None,
                Nothing,
                "allow exec in a paused container",
            ),
        ],
        ..simple(
            "exec",
            "execute new process inside the container",
            "Starts another process in a running container.",
        )
    },
    Command {
        usage: "",
        arguments: Arguments::Exactly(0),
        ..simple(
            "features",
            "show the enabled features",
            "Prints, as JSON, what this program can do on this host.",
        )
    },
    Command {
        usage: "<container-id> [signal]",
        arguments: Arguments::Between(1, 2),
        flags: &[
            flag(
                "all",
                Some("a"),
                Nothing,
                "send the specified signal to all processes inside the container",
            ),
            REGEX,
        ],
        ..simple(
            "kill",
            "kill sends the specified signal (default: SIGTERM) to the container's init process",
            "The signal is a name, with or without SIG, or a number.",
        )
    },
    Command {
        usage: "<command> [command options] [arguments...]",
        arguments: Arguments::Minimum(0),
        is_other_program: true,
        ..simple(
            "image",
            "pulls, keeps and unpacks images",
            "Runs ocirun-image(1), found beside this program or in PATH, which tells its own commands and flags by \
             --help:\n\n   ocirun image pull docker.io/library/busybox\n   ocirun image bundle docker.io/library/busybox \
             bundle/ && ocirun run bundle/",
        )
    },
    Command {
        usage: "",
        arguments: Arguments::Exactly(0),
        flags: &[
            FORMAT,
            flag("quiet", Some("q"), Nothing, "display only container IDs"),
        ],
        ..simple(
            "list",
            "lists containers started with the given root",
            "Lists the containers below --root.",
        )
    },
    Command {
        usage: "<add | remove> <container-id> <mounts.json>",
        arguments: Arguments::Exactly(3),
        ..simple(
            "mounts",
            "add mounts to a running container, or remove them",
            "The file is a list of mounts as in config.json. Bind mounts and file systems of type tmpfs can be added; of \
             what is to be removed only the destination counts.",
        )
    },
    simple(
        "pause",
        "pause suspends all processes inside the container",
        "Freezes the container's cgroup, until the resume command.",
    ),
    Command {
        usage: "<container-id> [ps options]",
        arguments: Arguments::Minimum(1),
        rest_is_foreign: true,
        flags: &[FORMAT],
        ..simple(
            "ps",
            "ps displays the processes running inside a container",
            "Runs ps(1) with the options given (default: -ef) and shows the lines of the container's processes.",
        )
    },
    Command {
        flags: criu::RESTORE,
        ..simple(
            "restore",
            "restore a container from a previous checkpoint",
            "Has CRIU make a container's processes again from the files that the checkpoint command wrote, with the \
             bundle that they were started from.",
        )
    },
    simple(
        "resume",
        "resumes all processes that have been previously paused",
        "Thaws the container's cgroup.",
    ),
    Command {
        usage: "<container-id> | <bundle>",
        flags: &[
            BUNDLE,
            CONFIG,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            DETACH,
            flag(
                "keep",
                None,
                Nothing,
                "do not delete the container after it exits",
            ),
            PID_FILE,
            NO_SUBREAPER,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            INIT,
        ],
        ..simple(
            "run",
            "create and run a container",
            "Makes a container from a bundle, runs its program, and removes it when the program has ended, with whose \
             exit code it ends.\nA single argument that is a directory with a config.json is the bundle; the id is then \
             made from its name, and printed when it runs detached.",
        )
    },
    Command {
        usage: "",
        arguments: Arguments::Exactly(0),
        flags: &[
            flag(
                "bundle",
                Some("b"),
                Value,
                "path to the root of the bundle directory",
            ),
            flag(
                "rootless",
                None,
                Nothing,
                "generate a configuration for a rootless container",
            ),
        ],
        ..simple(
            "spec",
            "create a new specification file",
            "Writes a config.json to begin with. An existing one is left alone.",
        )
    },
    simple(
        "start",
        "executes the user defined process in a created container",
        "Lets the program of a created container run.",
    ),
    simple(
        "state",
        "output the state of a container",
        "Prints the state, as JSON.",
    ),
    Command {
        flags: &[
            flag(
                "interval",
                None,
                Value,
                "set the stats collection interval (default: 5s)",
            ),
            flag(
                "stats",
                None,
                Nothing,
                "display the container's stats then exit",
            ),
        ],
        ..simple(
            "events",
            "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
            "Prints lines of JSON: what the container uses, at every interval, and each time the kernel kills one of \
             its processes for lack of memory. Ends with the container.",
        )
    },
    Command {
        flags: update::FLAGS,
        ..simple(
            "update",
            "update container resource constraints",
            "Changes the limits that are named, of a container that runs. Rules for devices, in a file of resources, \
             replace all earlier ones.",
        )
    },
    Command {
        usage: "<bash | zsh | fish>",
        hidden: true,
        ..simple(
            "completions",
            "print completions for a shell",
            "Prints a completion script.",
        )
    },
    Command {
        usage: "<directory>",
        hidden: true,
        ..simple(
            "man",
            "write the man pages",
            "Writes a man page for the program and for each command.",
        )
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for flags in COMMANDS.iter().map(|command| command.flags).chain([GLOBAL]) {
            let mut names: Vec<_> = flags
                .iter()
                .flat_map(|flag| [Some(flag.name), flag.short])
                .flatten()
                .collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{names:?}");
        }
    }
}
