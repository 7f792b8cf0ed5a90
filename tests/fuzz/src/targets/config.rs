//! What an administrator writes: the configuration file, and choices on the command line.

use std::path::Path;

use ownproc::config::Config;
use ownproc::model::{ContainerName, PolicyChange, PolicyChoices};

use crate::input::text;

/// The configuration file: taken, or refused by one line that names the file.
pub fn config_file(data: &[u8]) {
    match Config::parse(data, Path::new("/etc/x.toml")) {
        Ok(config) => {
            let section = |section: &ownproc::config::Section| {
                let lines = data.split(|&byte| byte == b'\n').count();
                assert!(section.lines.values().all(|line| (1..=lines).contains(line)));
            };
            section(&config.defaults);
            config.containers.iter().for_each(|(_, of_container)| section(of_container));
            // The most specific pattern that fits comes first: an exact name, then longer prefixes.
            let web = ContainerName::new("web-1").unwrap();
            let fitting = config.containers.iter().filter(|(pattern, _)| pattern.fits(&web));
            let lengths: Vec<usize> = fitting.map(|(pattern, _)| pattern.to_string().len()).collect();
            assert!(lengths.len() < 2 || lengths[1..].is_sorted_by(|one, next| one >= next), "{lengths:?}");
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.starts_with("/etc/x.toml") && !said.contains(['\n', '\r']), "{said:?}");
            let lines = data.split(|&byte| byte == b'\n').count();
            assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)), "{said}");
        }
    }
}

/// `KEY=VALUE,...` of `launch --view`: what is understood can be applied, and is written so that it is read as the same.
pub fn config_choices(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let words: Vec<&str> = text.lines().collect();
    match PolicyChange::parse_all(&words) {
        Ok(changes) => {
            let mut choices = PolicyChoices::default();
            let written = changes.iter().map(|change| {
                change.apply(&mut choices).expect("a known key and value");
                format!("{}={}", change.key, change.value.as_deref().unwrap_or(PolicyChange::DEFAULT))
            });
            let written = written.collect::<Vec<_>>().join(",");
            if !changes.is_empty() {
                assert_eq!(PolicyChange::parse_all(&[written]), Ok(changes));
            }
            let json = serde_json::to_vec(&choices).unwrap();
            assert_eq!(serde_json::from_slice::<PolicyChoices>(&json).unwrap(), choices);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
