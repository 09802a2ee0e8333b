//! `ocirun-cri`, the daemon: its command line, and what it hears by signals.

use clap::{Parser, Subcommand};
use cri_server::config::{self, Config, Named};
use cri_server::live::Live;
use cri_server::{Error, Kind, Result, look, notify, server};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Serves the Kubernetes Container Runtime Interface.
#[derive(Debug, Parser)]
#[command(name = "ocirun-cri", version, about)]
struct Cli {
    /// Configuration file; drop-ins are in the directory of the same name with `.d`
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Socket to serve on
    #[arg(long, value_name = "PATH")]
    listen: Option<PathBuf>,
    /// Where images and writable layers are
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Where records of pods and containers are
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tells how the running daemon is, and fails where it cannot run pods
    Status,
    /// Shows configuration
    Config {
        #[command(subcommand)]
        which: Which,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Which {
    /// Prints the default configuration, with comments
    Default,
    /// Reads the configuration and says what is wrong with it
    Check,
}

impl Cli {
    fn file(&self) -> (PathBuf, Named) {
        match &self.config {
            Some(file) => (file.clone(), Named::Yes),
            None => (config::DEFAULT_FILE.into(), Named::No),
        }
    }

    /// What was typed wins over what is in files.
    fn change(&self) -> impl Fn(&mut Config) + Send + Sync + 'static {
        let paths = (self.listen.clone(), self.root.clone(), self.state.clone());
        let level = self.log_level.clone();
        move |config| {
            let set = |to: &mut PathBuf, from: &Option<PathBuf>| {
                if let Some(path) = from {
                    to.clone_from(path);
                }
            };
            set(&mut config.listen, &paths.0);
            set(&mut config.root, &paths.1);
            set(&mut config.state, &paths.2);
            if let Some(level) = &level {
                config.log_level.clone_from(level);
            }
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Command::Config { which }) => show(&cli, *which),
        Some(Command::Status) => status(&cli),
        None => daemon(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be done about a standard error that is closed.
            let _ = writeln!(std::io::stderr(), "ocirun-cri: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(cli: &Cli, which: Which) -> Result<()> {
    let text = match which {
        Which::Default => config::DEFAULT,
        Which::Check => {
            let (file, named) = cli.file();
            Config::load(&file, named)?;
            "the configuration is good\n"
        }
    };
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Error::os("write to standard output", &error))
}

fn status(cli: &Cli) -> Result<()> {
    let (file, named) = cli.file();
    let mut config = Config::load(&file, named)?;
    (cli.change())(&mut config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::os("start of the executor", &error))?;
    let (text, is_ready) = runtime.block_on(look::status(&config.listen))?;
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Error::os("write to standard output", &error))?;
    if is_ready {
        return Ok(());
    }
    Err(Error::new(Kind::Unavailable, "pods cannot run"))
}

/// What this program says at a level; libraries are heard when they warn.
fn of_level(level: LevelFilter) -> Targets {
    let theirs = level.min(LevelFilter::WARN);
    let ours = ["cri_server", "ocirun_cri"].map(|target| (target, level));
    Targets::new().with_default(theirs).with_targets(ours)
}

fn daemon(cli: &Cli) -> Result<()> {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(of_level(LevelFilter::INFO));
    let text = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(filter)
        .with(text)
        .init();
    let set_level = Box::new(move |level| {
        // Fails only without a subscriber, and this one lives as long as the program.
        drop(handle.reload(of_level(level)));
    });
    let (file, named) = cli.file();
    let live = Arc::new(Live::load(file, named, cli.change(), set_level)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::os("start of the executor", &error))?;
    let served = runtime.block_on(run(live));
    // Work that does not end, such as a read of a dead volume, does not hold the program.
    runtime.shutdown_background();
    served
}

async fn run(live: Arc<Live>) -> Result<()> {
    let signals = |kind| signal(kind).map_err(|error| Error::os("signal handler", &error));
    let mut hangup = signals(SignalKind::hangup())?;
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let reloaded = live.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            notify::reloading();
            match reloaded.reload() {
                Ok(()) => tracing::info!("configuration read again"),
                Err(error) => tracing::error!("the old configuration stays: {error}"),
            }
            notify::tell("READY=1");
        }
    });
    if let Some(pause) = notify::watchdog() {
        tokio::spawn(async move {
            loop {
                notify::tell("WATCHDOG=1");
                tokio::time::sleep(pause).await;
            }
        });
    }
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        notify::tell("STOPPING=1");
    };
    server::serve(live, shutdown).await
}
