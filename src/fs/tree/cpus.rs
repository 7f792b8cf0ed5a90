//! What lies below `sys/devices/system/cpu`: mirrored from the host, numbered by path.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;

use super::{Kind, Tree, cpu_path, join};
use crate::containers::View;
use crate::fs::Refusal;
use crate::fs::inode::{Node, Place};
use crate::fs::sysfs::{Family, cpu_number, node_number};
use crate::host::{SysEntry, SysKind};
use crate::readings;

/// How deep below a CPU directory paths are looked for; sysfs there is four deep (`cache/index0/power/...`).
const MAX_DEPTH: usize = 6;

impl Tree {
    /// Gives every path below the CPU directories its number.
    pub(super) fn number_paths(&self) {
        let (mut directory, mut cpu_n) = (BTreeSet::new(), BTreeSet::new());
        for (name, kind) in self.sys_entries("") {
            match cpu_number(&name) {
                Some(_) => self.collect(&name, "", &mut cpu_n, 0),
                None => {
                    if kind == SysKind::Directory {
                        self.collect("", &name, &mut directory, 0);
                    }
                    directory.insert(name);
                }
            }
        }
        self.paths.add_all(Family::Directory, directory);
        self.paths.add_all(Family::CpuN, cpu_n);
    }

    /// The entries of a directory below the host's CPU directory; none where there is no such directory.
    pub(super) fn sys_entries(&self, path: &str) -> Vec<(String, SysKind)> {
        let entries = self.host.cpus().list(Path::new(path)).unwrap_or_default();
        entries
            .into_iter()
            .filter_map(|SysEntry { name, kind }| Some((name.into_string().ok()?, kind)))
            .collect()
    }

    fn collect(&self, base: &str, below: &str, paths: &mut BTreeSet<String>, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        for (name, kind) in self.sys_entries(&join(base, below)) {
            let path = join(below, &name);
            if kind == SysKind::Directory {
                self.collect(base, &path, paths, depth + 1);
            }
            paths.insert(path);
        }
    }

    /// What `name` is in one of the CPU directories.
    pub(super) fn lookup_cpu(&self, parent: Node, name: &str) -> Result<Node, Refusal> {
        let missing = Refusal(Errno::ENOENT);
        match parent {
            Node::SysCpu { path: 0 } if cpu_number(name).is_some() => {
                Ok(Node::SysCpuN { cpu: cpu_number(name).unwrap_or_default(), path: 0 })
            }
            Node::SysCpu { path } => {
                let path = join(&self.path(Family::Directory, path)?, name);
                self.sys_kind(None, &path)?;
                Ok(Node::SysCpu { path: self.paths().number(Family::Directory, &path).ok_or(missing)? })
            }
            Node::SysCpuN { cpu, path } => {
                let path = join(&self.path(Family::CpuN, path)?, name);
                self.sys_kind(Some(cpu), &path)?;
                Ok(Node::SysCpuN { cpu, path: self.paths().number(Family::CpuN, &path).ok_or(missing)? })
            }
            _ => Err(missing),
        }
    }

    /// The kind of a path below the CPU directory. A CPU that is offline lacks directories that another has, and
    /// may be shown to a container that counts its CPUs from 0: any CPU's answer will do.
    pub(super) fn sys_kind(&self, cpu: Option<u16>, path: &str) -> Result<Kind, Refusal> {
        let of = |path: &str| self.host.cpus().kind(Path::new(path));
        let kind = match cpu {
            None => of(path),
            Some(cpu) => of(&cpu_path(cpu, path)).or_else(|error| {
                of(&cpu_path(cpu, ""))?; // a CPU that the host does not have stays unknown
                if node_number(path).is_some_and(|node| self.has_node(node)) {
                    return Ok(SysKind::Link); // CPUs and nodes may have other numbers for a container
                }
                match self.host.online()?.iter().next().and_then(|any| u16::try_from(any).ok()) {
                    Some(any) => of(&cpu_path(any, path)),
                    None => Err(error),
                }
            }),
        };
        kind.map(Kind::from).map_err(|_| Refusal(Errno::ENOENT))
    }

    pub(super) fn path(&self, family: Family, number: u32) -> Result<Arc<str>, Refusal> {
        if let Some(path) = self.paths().path(family, number) {
            return Ok(path);
        }
        // The kernel knows a number that we do not: a driver came after we looked, and our predecessor saw it.
        self.number_paths();
        self.paths().path(family, number).ok_or(Refusal(Errno::ENOENT))
    }

    fn readlink_node(&self, place: Place, tid: u32) -> Result<OsString, Refusal> {
        let path = self.node_path_of(place.node)?;
        let target = match self.view(place.scope, tid)? {
            View::Container(contained) => {
                readings::sys_node_link(&path, &contained.subject, &self.host, &contained.policies())?
            }
            View::Host => {
                let tree = self.host.node_tree().ok_or(Refusal(Errno::ENOENT))?;
                tree.link(Path::new(&path))?
            }
            View::Unknown => return Err(Refusal(Errno::EIO)),
        };
        Ok(target.into())
    }

    /// Where a mirrored symbolic link points, for the thread `tid`: its cpuN may be another of the host's.
    pub fn readlink(&self, place: Place, tid: u32) -> Result<OsString, Refusal> {
        let path = match place.node {
            Node::SysCpu { path } => self.path(Family::Directory, path)?.to_string(),
            Node::SysCpuN { cpu, path } => cpu_path(cpu, &self.path(Family::CpuN, path)?),
            Node::SysNode { .. } | Node::SysNodeN { .. } => return self.readlink_node(place, tid),
            _ => return Err(Refusal(Errno::EINVAL)),
        };
        let path = Path::new(&path);
        let target = match self.view(place.scope, tid)? {
            View::Container(contained) => {
                readings::sys_cpu_link(path, &contained.subject, &self.host, &contained.policies())?
            }
            View::Host => self.host.cpus().link(path)?,
            View::Unknown => return Err(Refusal(Errno::EIO)),
        };
        Ok(target.into())
    }
}
