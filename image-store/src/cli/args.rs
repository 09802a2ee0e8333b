//! Commands and flags; parser, help, man pages and completions all come from here.

use clap::{Args, Parser, Subcommand, ValueEnum};
use image_store::manifest::Platform;
use std::path::PathBuf;

/// Pull, keep and unpack OCI images.
#[derive(Debug, Parser)]
#[command(name = "ocirun-image", version, max_term_width = 100)]
pub struct Cli {
    /// Directory of the store [default: /var/lib/ocirun/images; below XDG_DATA_HOME for an ordinary user]
    #[arg(long, global = true, env = "OCIRUN_IMAGE_ROOT")]
    pub root: Option<PathBuf>,
    /// Directory with one directory a registry host, as containerd's certs.d; may be repeated
    #[arg(long, global = true, value_name = "DIR")]
    pub hosts_dir: Vec<PathBuf>,
    /// File in the form of containers-registries.conf(5)
    #[arg(long, global = true, value_name = "FILE")]
    pub registries_conf: Option<PathBuf>,
    /// File with credentials, in the form of docker's config.json
    #[arg(long, global = true, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Print machine-readable JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Seconds in which a registry must send 20 KiB of a layer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub stall_timeout: u64,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// How an exchange with a registry is done.
#[derive(Debug, Args)]
pub struct Transfer {
    /// Platform as os/architecture[/variant]; this machine's if not given
    #[arg(long)]
    pub platform: Option<Platform>,
    /// Layers that are worked on at once
    #[arg(long, default_value_t = 3)]
    pub parallel: usize,
    /// Do not keep the compressed layers: less disk, but no push, no export, and no resumption inside a layer
    #[arg(long)]
    pub discard_blobs: bool,
    /// Print no progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// The form of an exported image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// OCI layout in a directory
    OciDir,
    /// OCI layout in a tar archive
    OciArchive,
    /// What `docker load` reads
    DockerArchive,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch an image and unpack it into the store
    Pull {
        /// Image reference
        image: String,
        /// How to fetch
        #[command(flatten)]
        transfer: Transfer,
    },
    /// Upload an image
    Push {
        /// Image in the store
        image: String,
        /// Reference to push to; the image's own name if not given
        destination: Option<String>,
    },
    /// List images
    #[command(visible_alias = "list")]
    Ls,
    /// Show manifest, config and layers of an image
    Inspect {
        /// Image in the store
        image: String,
    },
    /// Show how an image was built
    History {
        /// Image in the store
        image: String,
    },
    /// Give an image another name
    Tag {
        /// Image in the store
        image: String,
        /// New reference
        name: String,
    },
    /// Remove names and, with their last one, images
    Rm {
        /// Images in the store
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Write the file system of an image into a new directory
    Unpack {
        /// Image in the store
        image: String,
        /// Directory, which must be empty or not exist
        dir: PathBuf,
    },
    /// Make an OCI bundle (rootfs and config.json) that a runtime can run
    Bundle {
        /// Image in the store
        image: String,
        /// Directory, which must be empty or not exist
        dir: PathBuf,
    },
    /// Mount the file system of an image
    Mount {
        /// Image in the store
        image: String,
        /// Directory to mount on
        target: PathBuf,
        /// Directory that takes changes; without it the mount is read-only, without devices and set-id bits
        #[arg(long, value_name = "DIR")]
        upper: Option<PathBuf>,
        /// User namespace (as /proc/PID/ns/user) whose maps say who owns the image's files
        #[arg(long, value_name = "FILE")]
        userns: Option<PathBuf>,
    },
    /// Undo a mount
    Umount {
        /// Directory that was mounted on
        target: PathBuf,
    },
    /// List what a directory adds to, changes in or takes from an image
    Diff {
        /// Image in the store
        image: String,
        /// Directory with a whole file system
        dir: PathBuf,
    },
    /// Make an image whose new top layer turns another image into the content of a directory
    Commit {
        /// Image in the store
        image: String,
        /// Directory with a whole file system
        dir: PathBuf,
        /// Reference of the new image
        name: String,
        /// Text for the image's history
        #[arg(long, default_value = "ocirun-image commit")]
        message: String,
        /// Latest time of a file in the new layer, in seconds since the epoch
        #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
        latest: Option<i64>,
    },
    /// Take images from an OCI layout (directory or archive) or a docker archive
    Import {
        /// Directory or archive
        source: PathBuf,
        /// Name for the image; names in the source are used if not given
        name: Option<String>,
        /// Let imported names replace existing ones
        #[arg(long)]
        replace: bool,
        /// Platform as os/architecture[/variant]; this machine's if not given
        #[arg(long)]
        platform: Option<Platform>,
    },
    /// Write an image to a directory or archive
    Export {
        /// Image in the store
        image: String,
        /// Directory or file, which must not exist
        destination: PathBuf,
        /// Form of the result
        #[arg(long, value_enum, default_value = "oci-archive")]
        format: Format,
    },
    /// List what refers to an image in its registry: signatures, attestations and the like
    Referrers {
        /// Image reference
        image: String,
    },
    /// Keep credentials for a registry
    Login {
        /// Registry host
        host: String,
        /// User
        #[arg(short, long)]
        username: String,
        /// Read the password from standard input
        #[arg(long, required = true)]
        password_stdin: bool,
    },
    /// Forget credentials for a registry
    Logout {
        /// Registry host
        host: String,
    },
    /// Remove what no image needs
    Gc {
        /// Remove begun downloads too, which are otherwise kept for a day
        #[arg(long)]
        all: bool,
    },
    /// Read everything in the store and compare it with what was recorded
    Fsck {
        /// Fetch damaged images again
        #[arg(long)]
        repair: bool,
    },
    /// Show what the store holds
    Df,
    /// Print a completion script
    #[command(hide = true)]
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Write man pages
    #[command(hide = true)]
    Man {
        /// Directory for them
        dir: PathBuf,
    },
}
