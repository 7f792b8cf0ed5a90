//! `ownproc config [--check FILE]`: the configuration in force, or what a file would put in force.

use std::path::Path;

use serde::Serialize;

use super::args::ConfigArgs;
use super::failure::{self, Failure};
use super::output;
use super::view;
use crate::config::{ConfigFile, Layers};
use crate::control::{Client, ConfigInfo, NamedSettings};

const HEADERS: [&str; 4] = ["SECTION", "KEY", "VALUE", "FROM"];

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    config: &'a ConfigInfo,
}

pub(super) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let config = match &args.check {
        Some(file) => check(file)?,
        None => {
            let client = Client::at(args.mount.paths()).map_err(|error| failure::not_running(&error))?;
            client.config().map_err(|error| view::refused(error, "config", &client))?
        }
    };
    if args.format.json {
        output::json(&Document { config: &config })?;
    } else {
        let defaults = NamedSettings { section: "defaults".to_owned(), settings: config.defaults.clone() };
        let sections = std::iter::once(&defaults).chain(&config.containers);
        let rows: Vec<[String; 4]> = sections
            .flat_map(|section| section.settings.iter().map(move |setting| (section, view::cells(setting))))
            .map(|(section, [key, value, from])| [section.section.clone(), key, value, from])
            .collect();
        output::table(HEADERS, &rows, args.format)?;
    }
    if !config.found {
        output::complain(&format!(
            "note: {} is not there: the flags of serve count, and what is built in",
            config.file.display()
        ));
    }
    match &config.error {
        Some(error) => Err(Failure::Findings(format!(
            "the last reload failed, what was in force before stays so: {error}"
        ))),
        None => Ok(()),
    }
}

/// What a daemon without flags would do with the file.
fn check(path: &Path) -> Result<ConfigInfo, Failure> {
    let file = ConfigFile::named(path);
    let config = file.load().map_err(|error| match error.is_io() {
        true => Failure::error(error),
        false => Failure::Findings(error.to_string()),
    })?;
    let config = config.unwrap_or_default();
    let layers = Layers { config, file: file.path().to_owned(), found: true, ..Layers::default() };
    Ok(ConfigInfo::new(&layers, None))
}
