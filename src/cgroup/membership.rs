//! Which group of each hierarchy a process is in.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::controller::{Controller, Version};
use super::layout::{Hierarchy, Layout};
use super::parse::proc_cgroup::{LineHierarchy, parse};

/// The group path per hierarchy of a [`Layout`], in its order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    paths: Vec<PathBuf>,
}

impl Membership {
    /// From the text of `/proc/PID/cgroup`.
    ///
    /// A path that lies outside our own cgroup namespace (`/..`) and a hierarchy without a line stand at the
    /// root; lines that are not understood or belong to hierarchies that are not mounted are skipped.
    pub fn parse(text: impl AsRef<[u8]>, layout: &Layout) -> Self {
        let mut paths = vec![PathBuf::from("/"); layout.hierarchies().len()];
        for line in parse(text.as_ref()).filter_map(Result::ok) {
            let group = Path::new(OsStr::from_bytes(line.path));
            let outside = group.components().any(|part| part == Component::ParentDir);
            let index = layout.hierarchies().iter().position(|h| matches(h, line.hierarchy));
            if let (Some(path), false) = (index.and_then(|index| paths.get_mut(index)), outside) {
                *path = group.to_owned();
            }
        }
        Self { paths }
    }

    /// From the paths, in the layout's order.
    #[must_use]
    pub const fn of(paths: Vec<PathBuf>) -> Self {
        Self { paths }
    }

    /// The group in one hierarchy, starting with `/`; `/` itself for one that does not exist.
    #[must_use]
    pub fn path(&self, hierarchy: usize) -> &Path {
        self.paths.get(hierarchy).map_or(Path::new("/"), PathBuf::as_path)
    }

    /// All of them, in the layout's order.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Whether it is the root group in every hierarchy.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.paths.iter().all(|path| path == Path::new("/"))
    }

    /// The same with each path replaced, for example with a trailing `init.scope` cut off.
    #[must_use]
    pub fn map(&self, f: impl Fn(usize, &Path) -> PathBuf) -> Self {
        Self { paths: self.paths.iter().enumerate().map(|(index, path)| f(index, path)).collect() }
    }
}

fn matches(hierarchy: &Hierarchy, line: LineHierarchy<'_>) -> bool {
    match line {
        LineHierarchy::V2 => hierarchy.version() == Version::V2,
        LineHierarchy::Named(name) => {
            hierarchy.version() == Version::V1 && hierarchy.name().is_some_and(|n| n.as_bytes() == name)
        }
        LineHierarchy::Controllers(list) => {
            hierarchy.version() == Version::V1
                && list
                    .split(|&b| b == b',')
                    .filter_map(Controller::from_kernel)
                    .any(|controller| hierarchy.controllers().contains(&controller))
        }
    }
}
