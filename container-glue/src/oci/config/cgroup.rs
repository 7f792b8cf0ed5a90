//! `linux.cgroupsPath`: where a container's groups are. Pure.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::OciError;
use super::inside;

/// A scope by its name, and the slice that it lies in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// `libpod-5f.scope`
    pub unit: String,
    /// `machine.slice`
    pub slice: String,
}

/// The groups' path from the hierarchies' roots, and systemd's scope there.
pub fn path(path: Option<&Path>, id: &str, systemd: bool) -> Result<(PathBuf, Option<Scope>), OciError> {
    let field = "linux.cgroupsPath";
    let own;
    let path = match path.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => path,
        None if systemd => {
            own = PathBuf::from(format!(":ownproc:{id}"));
            &own
        }
        None => return Ok((Path::new("ownproc").join(id), None)),
    };
    let text = path.to_str().ok_or_else(|| OciError::config(field, "is not UTF-8"))?;
    if text.contains('\n') {
        return Err(OciError::config(field, "holds a line feed"));
    }
    let (path, scope) = if systemd {
        let (path, scope) = scope(text)?;
        (path, Some(scope))
    } else {
        (path.to_owned(), None)
    };
    let path = inside(field, &path)?;
    if path.as_os_str().is_empty() {
        return Err(OciError::config(field, "is the root of the hierarchies"));
    }
    Ok((path, scope))
}

/// SLICE:PREFIX:NAME as that scope and the path that systemd gives it: `a-b.slice` lies in `a.slice` (systemd.slice(5)).
pub fn scope(text: &str) -> Result<(PathBuf, Scope), OciError> {
    let bad = |reason: &str| OciError::config("linux.cgroupsPath", format!("{text:?}: {reason}"));
    let mut parts = text.split(':');
    let (Some(slice), Some(prefix), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad("with --systemd-cgroup it is SLICE:PREFIX:NAME"));
    };
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice").ok_or_else(|| bad("the slice's name must end in .slice"))?;
    if [stem, prefix, name].iter().any(|part| part.contains('/')) || name.is_empty() {
        return Err(bad("a slash in it, or no name"));
    }
    let mut path = PathBuf::new();
    if stem != "-" {
        let words: Vec<&str> = stem.split('-').collect();
        if words.iter().any(|word| word.is_empty()) {
            return Err(bad("an empty part in the slice's name"));
        }
        for length in 1..=words.len() {
            path.push(format!("{}.slice", words[..length].join("-")));
        }
    }
    let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
    path.push(&unit);
    Ok((path, Scope { unit, slice: slice.to_owned() }))
}
