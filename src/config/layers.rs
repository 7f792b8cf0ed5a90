//! Which choice counts: the container's own, the configuration's for its name, the flags of `serve`, the
//! configuration's defaults, what is built in. Pure.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::parse::{Config, Pattern, Section};
use crate::model::{ContainerName, DaemonChoices, OnUnreadable, Policies, PolicyChoices, PolicyKey};

/// All that a daemon was told about policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// The flags of `serve`.
    pub flags: DaemonChoices,
    /// The configuration; empty where no file is there.
    pub config: Config,
    /// The file that it is read from.
    pub file: PathBuf,
    /// Whether the file was there.
    pub found: bool,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum Origin {
    /// The container's own choice.
    Container,
    /// The configuration.
    Config {
        /// Which file. A path that is not UTF-8 is told approximately.
        file: String,
        /// The line of the setting, from 1.
        line: usize,
        /// `defaults`, or `containers.NAME`.
        section: String,
    },
    /// A flag of `serve`.
    Flag,
    /// Nobody chose: it is built in.
    Default,
}

/// The value of one policy, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// A [`PolicyKey`]'s name.
    pub key: String,
    /// The name of its value.
    pub value: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: Origin,
}

/// One layer: what it chooses, and how to say where that stands.
enum Layer<'a> {
    Own(PolicyChoices),
    Named(&'a Pattern, &'a Section),
    Flags(&'a DaemonChoices),
    Defaults(&'a Section),
}

impl Layer<'_> {
    fn containers(&self) -> PolicyChoices {
        match self {
            Self::Own(choices) => *choices,
            Self::Named(_, section) | Self::Defaults(section) => section.choices.containers,
            Self::Flags(flags) => flags.containers,
        }
    }

    fn get(&self, key: PolicyKey) -> Option<&'static str> {
        match self {
            Self::Own(choices) => choices.get(key),
            Self::Named(_, section) | Self::Defaults(section) => section.choices.get(key),
            Self::Flags(flags) => flags.get(key),
        }
    }

    fn origin(&self, key: PolicyKey, layers: &Layers) -> Origin {
        match self {
            Self::Own(_) => Origin::Container,
            Self::Flags(_) => Origin::Flag,
            Self::Named(pattern, section) => layers.in_file(key, section, format!("containers.{pattern}")),
            Self::Defaults(section) => layers.in_file(key, section, "defaults".to_owned()),
        }
    }
}

impl Layers {
    /// From the first that is asked to the last. `name`: of a registered container; others have none.
    fn of<'a>(
        &'a self,
        name: Option<&'a ContainerName>,
        own: PolicyChoices,
    ) -> impl Iterator<Item = Layer<'a>> {
        let sections = self.config.containers.iter();
        let named = sections.filter(move |(pattern, _)| name.is_some_and(|name| pattern.fits(name)));
        std::iter::once(Layer::Own(own))
            .chain(named.map(|(pattern, section)| Layer::Named(pattern, section)))
            .chain([Layer::Flags(&self.flags), Layer::Defaults(&self.config.defaults)])
    }

    /// What counts for a container that made these choices.
    #[must_use]
    pub fn effective(&self, name: Option<&ContainerName>, own: PolicyChoices) -> Policies {
        let all = self.of(name, own).fold(PolicyChoices::default(), |all, layer| all.or(layer.containers()));
        all.complete()
    }

    /// The same with the reason for each value.
    #[must_use]
    pub fn settings(&self, name: Option<&ContainerName>, own: PolicyChoices) -> Vec<Setting> {
        PolicyKey::CONTAINER.into_iter().map(|key| self.setting(key, name, own)).collect()
    }

    /// What counts for readers without a container.
    #[must_use]
    pub fn on_unreadable(&self) -> OnUnreadable {
        self.flags.on_unreadable.or(self.config.defaults.choices.on_unreadable).unwrap_or_default()
    }

    /// What counts where no container chose anything, with the reason for each value.
    #[must_use]
    pub fn defaults(&self) -> Vec<Setting> {
        PolicyKey::ALL.into_iter().map(|key| self.setting(key, None, PolicyChoices::default())).collect()
    }

    /// What the configuration sets for containers by name: each section's name and settings, in the order in which
    /// they are asked.
    #[must_use]
    pub fn named(&self) -> Vec<(String, Vec<Setting>)> {
        let settings = |pattern: &Pattern, section: &Section| {
            let name = format!("containers.{pattern}");
            let set = |key| Some((key, section.choices.get(key)?));
            let settings = PolicyKey::ALL.into_iter().filter_map(set).map(|(key, value)| Setting {
                key: key.name().to_owned(),
                value: value.to_owned(),
                origin: self.in_file(key, section, name.clone()),
            });
            (name.clone(), settings.collect())
        };
        self.config.containers.iter().map(|(pattern, section)| settings(pattern, section)).collect()
    }

    fn setting(&self, key: PolicyKey, name: Option<&ContainerName>, own: PolicyChoices) -> Setting {
        let chosen = self.of(name, own).find_map(|layer| Some((layer.get(key)?, layer.origin(key, self))));
        let built_in = || (key.values().first().copied().unwrap_or_default(), Origin::Default);
        let (value, origin) = chosen.unwrap_or_else(built_in);
        Setting { key: key.name().to_owned(), value: value.to_owned(), origin }
    }

    fn in_file(&self, key: PolicyKey, section: &Section, name: String) -> Origin {
        Origin::Config {
            file: self.file.to_string_lossy().into_owned(),
            line: section.lines.get(&key).copied().unwrap_or_default(),
            section: name,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn layers(text: &str, flags: &[(PolicyKey, &str)]) -> Layers {
        let file = Path::new("/c.toml");
        let mut layers = Layers {
            config: Config::parse(text.as_bytes(), file).unwrap(),
            file: file.to_owned(),
            ..Default::default()
        };
        for (key, value) in flags {
            layers.flags.set(*key, value).unwrap();
        }
        layers
    }

    fn name(text: &str) -> ContainerName {
        ContainerName::new(text).unwrap()
    }

    fn own(key: PolicyKey, value: &str) -> PolicyChoices {
        let mut choices = PolicyChoices::default();
        choices.set(key, Some(value)).unwrap();
        choices
    }

    /// The value, and a word for where it comes from.
    fn asked(layers: &Layers, of: &str, own: PolicyChoices, key: PolicyKey) -> (String, String) {
        let name = name(of);
        let setting = layers.setting(key, Some(&name), own);
        assert_eq!(layers.effective(Some(&name), own).get(key), Some(setting.value.as_str()), "both agree");
        let from = match setting.origin {
            Origin::Container => "container".to_owned(),
            Origin::Config { file, line, section } => format!("{file}:{line} {section}"),
            Origin::Flag => "flag".to_owned(),
            Origin::Default => "default".to_owned(),
        };
        (setting.value, from)
    }

    #[test]
    fn o2_each_layer_goes_before_the_next() {
        // Each layer says the opposite of the one before it.
        for key in PolicyKey::CONTAINER {
            let (built_in, other) = (key.values()[0], key.values()[1]);
            let defaults = format!("[defaults]\n{} = \"{other}\"\n", key.name());
            let named = format!("{defaults}[containers.web]\n{} = \"{other}\"\n", key.name());
            let flag = [(key, built_in)];
            let none = PolicyChoices::default();
            let is = |text: &str, flags: &[_], own, value: &str, from: &str| {
                let found = asked(&layers(text, flags), "web", own, key);
                assert_eq!(found, (value.to_owned(), from.to_owned()));
            };
            is("", &[], none, built_in, "default");
            is(&defaults, &[], none, other, "/c.toml:2 defaults");
            is(&defaults, &flag, none, built_in, "flag");
            is(&named, &flag, none, other, "/c.toml:4 containers.web");
            is(&named, &flag, own(key, built_in), built_in, "container");
            // A choice about one key leaves the others alone.
            let another = PolicyKey::CONTAINER[(key as usize + 1) % 5];
            is(
                &named,
                &[(another, another.values()[1])],
                own(another, another.values()[1]),
                other,
                "/c.toml:4 containers.web",
            );
        }
    }

    #[test]
    fn o2_containers_without_a_name_have_the_defaults() {
        let layers = layers("[defaults]\nswap = \"hide\"\n[containers.\"*\"]\ncpus = \"cpuset\"\n", &[]);
        let settings = layers.settings(None, PolicyChoices::default());
        let values: Vec<&str> = settings.iter().map(|setting| setting.value.as_str()).collect();
        assert_eq!(values, ["quota", "physical", "hide", "container", "zero"]);
        assert_eq!(layers.effective(None, PolicyChoices::default()).get(PolicyKey::Cpus), Some("quota"));
        assert_eq!(
            layers.effective(Some(&name("x")), PolicyChoices::default()).get(PolicyKey::Cpus),
            Some("cpuset")
        );
    }

    #[test]
    fn o3_the_most_specific_section_that_says_something_counts() {
        let text = "[containers.\"*\"]\ncpus = \"cpuset\"\nswap = \"hide\"\nuptime = \"host\"\n\
            [containers.\"web-*\"]\ncpus = \"quota\"\nnumbering = \"compact\"\n\
            [containers.\"web-a*\"]\nnumbering = \"physical\"\n\
            [containers.web-a]\nswap = \"show\"\ncpus = \"cpuset\"\n";
        let layers = layers(text, &[]);
        for (of, expected) in [
            ("db", ["cpuset:2", "physical:0", "hide:3", "host:4"]),
            ("web", ["cpuset:2", "physical:0", "hide:3", "host:4"]),
            ("web-", ["quota:6", "compact:7", "hide:3", "host:4"]),
            ("web-b", ["quota:6", "compact:7", "hide:3", "host:4"]),
            ("web-ab", ["quota:6", "physical:9", "hide:3", "host:4"]),
            ("web-a", ["cpuset:12", "physical:9", "show:11", "host:4"]),
        ] {
            let settings = layers.settings(Some(&name(of)), PolicyChoices::default());
            let found: Vec<String> = settings
                .iter()
                .take(4)
                .map(|setting| match &setting.origin {
                    Origin::Config { line, .. } => format!("{}:{line}", setting.value),
                    _ => format!("{}:0", setting.value),
                })
                .collect();
            assert_eq!(found, expected, "{of}");
        }
        let sections: Vec<String> = layers.named().into_iter().map(|(name, _)| name).collect();
        assert_eq!(sections, ["containers.web-a", "containers.web-a*", "containers.web-*", "containers.*"]);
    }

    #[test]
    fn o6_readers_without_a_container_go_by_flag_then_configuration() {
        let text = "[defaults]\non-unreadable = \"error\"\n";
        let host = [(PolicyKey::OnUnreadable, "host")];
        for (text, flags, expected) in [
            ("", &[][..], OnUnreadable::Host),
            (text, &[], OnUnreadable::Error),
            (text, &host, OnUnreadable::Host),
            ("", &[(PolicyKey::OnUnreadable, "error")], OnUnreadable::Error),
        ] {
            let layers = layers(text, flags);
            assert_eq!(layers.on_unreadable(), expected);
            let setting = layers.defaults().pop().unwrap();
            let expected = crate::model::Policy::name(expected);
            assert_eq!((setting.key.as_str(), setting.value.as_str()), ("on-unreadable", expected));
        }
    }

    #[test]
    fn a_setting_is_plain_json() {
        let layers = layers("[defaults]\nswap = \"hide\"\n", &[]);
        let json = serde_json::to_value(&layers.defaults()[2]).unwrap();
        let expected = serde_json::json!({
            "key": "swap", "value": "hide", "from": "config", "file": "/c.toml", "line": 2, "section": "defaults",
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Setting>(json).unwrap(), layers.defaults()[2]);
    }
}
