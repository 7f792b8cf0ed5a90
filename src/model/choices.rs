//! What somebody chose of the policies, and what is said about a choice that does not exist.

use serde::{Deserialize, Serialize};

use super::policy::{
    CountersPolicy, CpusPolicy, Numbering, OnUnreadable, Policies, Policy, PolicyKey, SwapPolicy,
    UptimePolicy,
};

/// A choice that cannot be made. Each message is one line and says what there is to choose from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No policy has that name.
    #[error("{key:?} is no policy: {hint}", hint = unknown(.key, .known))]
    UnknownKey {
        /// What was written.
        key: String,
        /// What could have been.
        known: &'static [PolicyKey],
    },
    /// The policy has no such value.
    #[error("{key} = {value:?}: it must be {values}", key = .key.name(), values = alternatives(*.key))]
    UnknownValue {
        /// Of which policy.
        key: PolicyKey,
        /// What was written.
        value: String,
    },
    /// It is not for one container to choose.
    #[error(
        "{key} is about readers without a container: it belongs into [defaults] of the configuration or on the command \
         line of `ownproc serve`",
        key = .0.name()
    )]
    NotAContainers(PolicyKey),
    /// Not of the form KEY=VALUE.
    #[error("{0:?} is not KEY=VALUE; the keys are {keys}", keys = list(&PolicyKey::CONTAINER))]
    Form(String),
    /// Named twice in one command.
    #[error("{} is given twice", .0.name())]
    Twice(PolicyKey),
}

impl PolicyError {
    /// No policy is called `key`.
    #[must_use]
    pub fn unknown_key(key: &str, known: &'static [PolicyKey]) -> Self {
        Self::UnknownKey { key: shortened(key), known }
    }

    /// `key` has no such value.
    #[must_use]
    pub fn unknown_value(key: PolicyKey, value: &str) -> Self {
        Self::UnknownValue { key, value: shortened(value) }
    }
}

/// At most 60 characters of what somebody wrote, for a message.
#[must_use]
pub fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The values of a policy in words: `"quota" or "cpuset"`.
#[must_use]
pub fn alternatives(key: PolicyKey) -> String {
    let values: Vec<String> = key.values().iter().map(|value| format!("{value:?}")).collect();
    values.join(" or ")
}

fn list(keys: &[PolicyKey]) -> String {
    keys.iter().map(|key| key.name()).collect::<Vec<_>>().join(", ")
}

fn unknown(key: &str, known: &'static [PolicyKey]) -> String {
    match nearest(key, known.iter().map(|key| key.name())) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("there are {}", list(known)),
    }
}

/// The one of `names` that was probably meant: a third of its letters may be wrong, and it must be the only one.
pub fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_ascii_lowercase().replace('_', "-");
    let mut best: Option<(usize, &str)> = None;
    for name in names.filter(|name| name.len().abs_diff(typed.len()) <= name.len() / 3) {
        let distance = distance(typed.as_bytes(), name.as_bytes());
        if distance <= name.len() / 3 && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

/// How many bytes must be put in, taken out or replaced to make one of the other.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *above;
            left = replaced.min(left + 1).min(*above + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

/// What was chosen for containers; what was not is left to whoever is asked next.
///
/// On the control socket and on disk the missing keys are those not chosen. A launcher older than this type sends all
/// of them: then all are the container's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyChoices {
    /// See [`CpusPolicy`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpusPolicy>,
    /// See [`Numbering`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbering: Option<Numbering>,
    /// See [`SwapPolicy`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<SwapPolicy>,
    /// See [`UptimePolicy`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime: Option<UptimePolicy>,
    /// See [`CountersPolicy`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters: Option<CountersPolicy>,
}

impl PolicyChoices {
    /// The name of the chosen value.
    #[must_use]
    pub fn get(&self, key: PolicyKey) -> Option<&'static str> {
        match key {
            PolicyKey::Cpus => self.cpus.map(Policy::name),
            PolicyKey::Numbering => self.numbering.map(Policy::name),
            PolicyKey::Swap => self.swap.map(Policy::name),
            PolicyKey::Uptime => self.uptime.map(Policy::name),
            PolicyKey::Counters => self.counters.map(Policy::name),
            PolicyKey::OnUnreadable => None,
        }
    }

    /// Chooses a value by its name; `None` takes the choice back.
    pub fn set(&mut self, key: PolicyKey, value: Option<&str>) -> Result<(), PolicyError> {
        match key {
            PolicyKey::Cpus => self.cpus = chosen(key, value)?,
            PolicyKey::Numbering => self.numbering = chosen(key, value)?,
            PolicyKey::Swap => self.swap = chosen(key, value)?,
            PolicyKey::Uptime => self.uptime = chosen(key, value)?,
            PolicyKey::Counters => self.counters = chosen(key, value)?,
            PolicyKey::OnUnreadable => return Err(PolicyError::NotAContainers(key)),
        }
        Ok(())
    }

    /// These, and of `other` what is not chosen here.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            cpus: self.cpus.or(other.cpus),
            numbering: self.numbering.or(other.numbering),
            swap: self.swap.or(other.swap),
            uptime: self.uptime.or(other.uptime),
            counters: self.counters.or(other.counters),
        }
    }

    /// These, and what is built in for the rest.
    #[must_use]
    pub fn complete(self) -> Policies {
        Policies {
            cpus: self.cpus.unwrap_or_default(),
            numbering: self.numbering.unwrap_or_default(),
            swap: self.swap.unwrap_or_default(),
            uptime: self.uptime.unwrap_or_default(),
            counters: self.counters.unwrap_or_default(),
        }
    }
}

/// All of them chosen.
impl From<Policies> for PolicyChoices {
    fn from(policies: Policies) -> Self {
        Self {
            cpus: Some(policies.cpus),
            numbering: Some(policies.numbering),
            swap: Some(policies.swap),
            uptime: Some(policies.uptime),
            counters: Some(policies.counters),
        }
    }
}

fn chosen<P: Policy>(key: PolicyKey, value: Option<&str>) -> Result<Option<P>, PolicyError> {
    let find = |value| P::find(value).ok_or_else(|| PolicyError::unknown_value(key, value));
    value.map(find).transpose()
}

/// What was chosen for a whole daemon: for its containers, and for readers without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DaemonChoices {
    /// For containers that have not chosen.
    pub containers: PolicyChoices,
    /// See [`OnUnreadable`].
    pub on_unreadable: Option<OnUnreadable>,
}

impl DaemonChoices {
    /// The name of the chosen value.
    #[must_use]
    pub fn get(&self, key: PolicyKey) -> Option<&'static str> {
        match key {
            PolicyKey::OnUnreadable => self.on_unreadable.map(Policy::name),
            key => self.containers.get(key),
        }
    }

    /// Chooses a value by its name.
    pub fn set(&mut self, key: PolicyKey, value: &str) -> Result<(), PolicyError> {
        match key {
            PolicyKey::OnUnreadable => self.on_unreadable = chosen(key, Some(value))?,
            key => self.containers.set(key, Some(value))?,
        }
        Ok(())
    }
}

/// One change of a container's own choices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// A [`PolicyKey`]'s name.
    pub key: String,
    /// A name of one of its values; `None` takes the container's own choice back.
    #[serde(default)]
    pub value: Option<String>,
}

impl PolicyChange {
    /// What takes a choice back, where it is written as a value.
    pub const DEFAULT: &'static str = "default";

    /// Reads `KEY=VALUE,KEY=VALUE,...` and checks it; `default` as value takes a choice back.
    pub fn parse_all(words: &[impl AsRef<str>]) -> Result<Vec<Self>, PolicyError> {
        let mut changes: Vec<Self> = Vec::new();
        for word in words.iter().flat_map(|word| word.as_ref().split(',')) {
            let (key, value) = word.split_once('=').ok_or_else(|| PolicyError::Form(shortened(word)))?;
            let value = (value != Self::DEFAULT).then(|| value.to_owned());
            let change = Self { key: key.to_owned(), value };
            let known = change.apply(&mut PolicyChoices::default())?;
            if changes.iter().any(|other| other.key == change.key) {
                return Err(PolicyError::Twice(known));
            }
            changes.push(change);
        }
        Ok(changes)
    }

    /// Makes the change; its key.
    pub fn apply(&self, choices: &mut PolicyChoices) -> Result<PolicyKey, PolicyError> {
        let key = PolicyKey::ALL.into_iter().find(|key| key.name() == self.key);
        let key = key.ok_or_else(|| PolicyError::unknown_key(&self.key, &PolicyKey::CONTAINER))?;
        choices.set(key, self.value.as_deref())?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests;
