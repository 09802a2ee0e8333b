//! The configuration in force, and its renewal.

use crate::config::{self, Config, Named};
use crate::error::Result;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use tracing::level_filters::LevelFilter;

/// Takes a new level for what is logged.
pub type SetLevel = Box<dyn Fn(LevelFilter) + Send + Sync>;

/// The configuration in force.
pub struct Live {
    file: PathBuf,
    named: Named,
    change: Box<dyn Fn(&mut Config) + Send + Sync>,
    set_level: SetLevel,
    current: RwLock<Arc<Config>>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Live({:?})", self.file)
    }
}

impl Live {
    /// Reads the configuration; `change` is what the command line says, which wins over files, each time.
    ///
    /// # Errors
    /// `Invalid` with file and key.
    pub fn load(
        file: PathBuf,
        named: Named,
        change: impl Fn(&mut Config) + Send + Sync + 'static,
        set_level: SetLevel,
    ) -> Result<Self> {
        let mut config = Config::load(&file, named)?;
        change(&mut config);
        set_level(level(&config));
        Ok(Self {
            file,
            named,
            change: Box::new(change),
            set_level,
            current: RwLock::new(Arc::new(config)),
        })
    }

    /// The configuration as it is now.
    #[must_use]
    pub fn get(&self) -> Arc<Config> {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads everything again. A mistake changes nothing.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn reload(&self) -> Result<()> {
        let mut config = Config::load(&self.file, self.named)?;
        (self.change)(&mut config);
        let running = self.get();
        for key in config.needs_restart(&running) {
            tracing::warn!("configuration: {key} changes at the next start only");
        }
        config.listen.clone_from(&running.listen);
        config.root.clone_from(&running.root);
        config.state.clone_from(&running.state);
        config.netns_dir.clone_from(&running.netns_dir);
        config.metrics_listen.clone_from(&running.metrics_listen);
        config.cgroup_driver = running.cgroup_driver;
        config.streaming = config::Streaming {
            idle_seconds: config.streaming.idle_seconds,
            ..running.streaming.clone()
        };
        (self.set_level)(level(&config));
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(config);
        Ok(())
    }
}

fn level(config: &Config) -> LevelFilter {
    config.log_level.parse().unwrap_or(LevelFilter::INFO)
}
