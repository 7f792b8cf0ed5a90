//! What lies below `sys/devices/system/node`.

use std::collections::BTreeSet;
use std::path::Path;

use nix::errno::Errno;

use super::{Kind, Tree, join};
use crate::containers::View;
use crate::fs::Refusal;
use crate::fs::inode::{Node, Place, Scope};
use crate::fs::sysfs::{Family, cpu_number, node_number};
use crate::host::{SysEntry, SysKind};
use crate::readings;

impl Tree {
    /// Gives every path below the node directories its number. The links to CPUs are numbered for all CPUs that the host
    /// could have, since any node may show any of them under compact numbering.
    pub(super) fn number_node_paths(&self) {
        let (mut directory, mut node_n) = (BTreeSet::new(), BTreeSet::new());
        for (name, _) in self.node_entries("") {
            match node_number(&name) {
                Some(_) => self.collect_node_paths(&name, "", &mut node_n),
                None => drop(directory.insert(name)),
            }
        }
        node_n.retain(|path| cpu_number(path).is_none());
        let cpus = self.host.possible().unwrap_or_default();
        node_n.extend(cpus.iter().map(|cpu| format!("cpu{cpu}")));
        self.paths.add_all(Family::Node, directory);
        self.paths.add_all(Family::NodeN, node_n);
    }

    /// The allow-list has no directory below another of its own name, so that this ends.
    fn collect_node_paths(&self, node: &str, below: &str, paths: &mut BTreeSet<String>) {
        for (name, kind) in self.node_entries(&join(node, below)) {
            let path = join(below, &name);
            if kind == SysKind::Directory {
                self.collect_node_paths(node, &path, paths);
            }
            paths.insert(path);
        }
    }

    fn node_entries(&self, path: &str) -> Vec<(String, SysKind)> {
        let entries = self.host.node_tree().and_then(|tree| tree.list(Path::new(path)).ok());
        let entry = |SysEntry { name, kind }: SysEntry| Some((name.into_string().ok()?, kind));
        entries.unwrap_or_default().into_iter().filter_map(entry).collect()
    }

    /// Whether any reader could be shown a node of this number: the host has it, or it is one of the numbers that
    /// compact numbering gives.
    pub(super) fn has_node(&self, number: u16) -> bool {
        let number = usize::from(number);
        self.host.nodes().is_ok_and(|nodes| nodes.online.contains(number) || number < nodes.online.len())
    }

    /// What `name` is in one of the directories.
    pub(super) fn lookup_node(&self, parent: Node, name: &str) -> Result<Node, Refusal> {
        let missing = Refusal(Errno::ENOENT);
        let node = match parent {
            Node::SysNode { path: 0 } if node_number(name).is_some() => {
                Node::SysNodeN { node: node_number(name).unwrap_or_default(), path: 0 }
            }
            Node::SysNode { path } => {
                let path = join(&self.path(Family::Node, path)?, name);
                self.node_kind(None, &path)?;
                Node::SysNode { path: self.paths().number(Family::Node, &path).ok_or(missing)? }
            }
            Node::SysNodeN { node, path } => {
                let path = join(&self.path(Family::NodeN, path)?, name);
                self.node_kind(Some(node), &path)?;
                Node::SysNodeN { node, path: self.paths().number(Family::NodeN, &path).ok_or(missing)? }
            }
            _ => return Err(missing),
        };
        Ok(node)
    }

    /// The kind of a path below the node directory. What a node has of its own, such as the pages of a size, another
    /// may lack: any node's answer will do.
    pub(super) fn node_kind(&self, node: Option<u16>, path: &str) -> Result<Kind, Refusal> {
        let missing = Refusal(Errno::ENOENT);
        let tree = self.host.node_tree().ok_or(missing)?;
        let of = |path: &str| tree.kind(Path::new(path)).map(Kind::from).map_err(|_| missing);
        let Some(node) = node else { return of(path) };
        if !self.has_node(node) {
            return Err(missing);
        }
        if path.is_empty() {
            return Ok(Kind::Directory);
        }
        if let Some(cpu) = cpu_number(path) {
            let known = self.host.possible()?.contains(usize::from(cpu));
            return if known { Ok(Kind::Symlink) } else { Err(missing) };
        }
        of(&node_path(node, path)).or_else(|refusal| {
            let nodes = self.host.nodes()?;
            let any = nodes.online.iter().find_map(|any| of(&format!("node{any}/{path}")).ok());
            any.ok_or(refusal)
        })
    }

    /// The path of a node's file or directory below the node directory.
    pub(super) fn node_path_of(&self, node: Node) -> Result<String, Refusal> {
        match node {
            Node::SysNode { path } => Ok(self.path(Family::Node, path)?.to_string()),
            Node::SysNodeN { node, path } => Ok(node_path(node, &self.path(Family::NodeN, path)?)),
            _ => Err(Refusal(Errno::EINVAL)),
        }
    }

    /// Adds the entries of one of the directories as the thread sees them.
    pub(super) fn list_node(
        &self,
        place: Place,
        tid: u32,
        add: &mut dyn FnMut(&str, Place, Kind),
    ) -> Result<(), Refusal> {
        if let Scope::Container(slot) = place.scope
            && !self.resolver.may_open(slot, tid)
        {
            return Err(Refusal(Errno::EACCES));
        }
        let path = self.node_path_of(place.node)?;
        let entries = match self.view(place.scope, tid)? {
            View::Container(contained) => {
                readings::sys_node_list_dir(&path, &contained.subject, &self.host, &contained.policies())?
            }
            View::Host => {
                let tree = self.host.node_tree().ok_or(Refusal(Errno::ENOENT))?;
                tree.list(Path::new(&path))?
            }
            View::Unknown => return Err(Refusal(Errno::EIO)),
        };
        for SysEntry { name, kind } in entries {
            let Some(name) = name.to_str() else { continue };
            let node = match place.node {
                Node::SysNode { path: 0 } if node_number(name).is_some() => {
                    node_number(name).map(|node| Node::SysNodeN { node, path: 0 })
                }
                Node::SysNodeN { node, path } => {
                    let path = join(&self.path(Family::NodeN, path)?, name);
                    self.paths().number(Family::NodeN, &path).map(|path| Node::SysNodeN { node, path })
                }
                _ => self.paths().number(Family::Node, &join(&path, name)).map(|path| Node::SysNode { path }),
            };
            if let Some(node) = node {
                add(name, place.sibling(node), kind.into());
            }
        }
        Ok(())
    }

    pub(super) fn render_node_file(&self, view: &View, path: &str, out: &mut Vec<u8>) -> Result<(), Refusal> {
        match view {
            View::Container(contained) => {
                readings::sys_node_file(path, &contained.subject, &self.host, &contained.policies(), out)?;
            }
            View::Host => out.extend_from_slice(self.host.node_file(path)?.as_bytes()),
            View::Unknown => return Err(Refusal(Errno::EIO)),
        }
        Ok(())
    }
}

/// The path of nodeN, or below it, in the node directory.
fn node_path(node: u16, below: &str) -> String {
    join(&format!("node{node}"), below)
}
