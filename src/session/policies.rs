//! The configuration of a living daemon, and what it tells about policies.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::worker::last_config;
use crate::config::{ConfigError, ConfigFile, Layers};
use crate::containers::{Registry, View};
use crate::control::{ConfigInfo, Refusal, RefusalKind, ViewInfo};
use crate::model::{DaemonChoices, PolicyChoices};

/// Where the policies of a daemon come from.
#[derive(Debug)]
pub struct Source {
    file: ConfigFile,
    flags: DaemonChoices,
    /// Where a copy of the last good file is kept.
    last: Option<PathBuf>,
    /// What was wrong with the file when it was read last.
    error: Mutex<Option<ConfigError>>,
}

impl Source {
    /// Reads the file for the first time: one that is wrong is an error, and nothing has been done yet.
    pub fn start(file: ConfigFile, flags: DaemonChoices) -> Result<(Self, Layers), ConfigError> {
        let source = Self { file, flags, last: None, error: Mutex::default() };
        let layers = source.read()?;
        Ok((source, layers))
    }

    /// The same for a worker that takes over: a file that has become wrong since leaves in force what was, which the one
    /// before wrote down beside the `registrations`. `ownproc config` tells the error.
    pub fn restart(
        file: ConfigFile,
        flags: DaemonChoices,
        registrations: &Path,
    ) -> Result<(Self, Layers), ConfigError> {
        let last = last_config(registrations);
        let source = Self { file, flags, last: Some(last.clone()), error: Mutex::default() };
        match source.read() {
            Ok(layers) => {
                source.remember();
                Ok((source, layers))
            }
            Err(error) => {
                log::error!("{error}; what was in force before stays so");
                let before = ConfigFile::named(&last).load().ok().flatten();
                let layers = Layers {
                    flags,
                    found: before.is_some(),
                    config: before.unwrap_or_default(),
                    file: source.file.path().to_owned(),
                };
                *source.error.lock() = Some(error);
                Ok((source, layers))
            }
        }
    }

    /// Writes down what is in force now, for the next worker.
    fn remember(&self) {
        let Some(last) = &self.last else { return };
        let new = last.with_extension("new");
        let copied = match std::fs::read(self.file.path()) {
            Ok(text) => std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, last)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::remove_file(last).or(Ok(()))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = copied {
            log::warn!("{}: {error}", last.display());
        }
    }

    /// Reads the file again. One that is wrong leaves in force what was.
    pub fn reload(&self, registry: &Registry) {
        let mut error = self.error.lock();
        *error = match self.read() {
            Ok(layers) => {
                registry.configure(layers);
                self.remember();
                let path = self.file.path().display();
                match &*error {
                    // who reads of the mistake reads of its end
                    Some(_) => log::warn!("{path}: read again, and right now"),
                    None => log::info!("{path}: read again"),
                }
                None
            }
            Err(error) => {
                log::error!("{error}; what was in force before stays so");
                Some(error)
            }
        };
    }

    /// For `ownproc config`.
    #[must_use]
    pub fn info(&self, layers: &Layers) -> ConfigInfo {
        ConfigInfo::new(layers, self.error.lock().as_ref().map(ToString::to_string))
    }

    fn read(&self) -> Result<Layers, ConfigError> {
        let config = self.file.load()?;
        Ok(Layers {
            flags: self.flags,
            found: config.is_some(),
            config: config.unwrap_or_default(),
            file: self.file.path().to_owned(),
        })
    }
}

/// The policies that count for a view. The host's own files have none.
pub(super) fn view(registry: &Registry, view: &View) -> Result<ViewInfo, Refusal> {
    let contained = match view {
        View::Container(contained) => contained,
        View::Host => {
            let why = "it sees the host's own files, to which no policy applies: name a container, or a process or group of one";
            return Err(Refusal::new(RefusalKind::Failed, why));
        }
        View::Unknown => {
            return Err(Refusal::new(
                RefusalKind::Failed,
                "its groups cannot be looked at just now: the daemon's log says why; try again",
            ));
        }
    };
    let entry = registry.list().into_iter().find(|entry| contained.is(entry));
    let own = entry.as_ref().map_or_else(PolicyChoices::default, |entry| entry.choices());
    let name = entry.map(|entry| entry.name.clone());
    Ok(ViewInfo {
        settings: registry.layers().settings(name.as_ref(), own),
        time_namespace: contained.subject.timens.is_some(),
        container: name,
    })
}
