//! What a directory lists.

use std::path::Path;

use nix::errno::Errno;

use super::{Entry, Kind, Tree, cpu_path, join};
use crate::containers::View;
use crate::fs::Refusal;
use crate::fs::inode::{Node, Place, ProcDir, Scope};
use crate::fs::sysfs::{Family, cpu_number};
use crate::host::SysEntry;
use crate::readings;

impl Tree {
    /// The entries of a directory as the thread `tid` sees it, `.` and `..` included.
    pub fn list(&self, place: Place, tid: u32) -> Result<Vec<Entry>, Refusal> {
        self.check_registered(place)?;
        let mut entries = vec![
            Entry { name: ".".into(), place, kind: Kind::Directory },
            Entry { name: "..".into(), place: self.parent(place)?, kind: Kind::Directory },
        ];
        let mut add =
            |name: &str, place: Place, kind: Kind| entries.push(Entry { name: name.into(), place, kind });
        match place.node {
            Node::Top => {
                add("proc", place.sibling(Node::Proc), Kind::Directory);
                add("sys", place.sibling(Node::Sys), Kind::Directory);
                if place.scope == Scope::Reader {
                    add("containers", place.sibling(Node::Containers), Kind::Directory);
                }
            }
            Node::Containers => {
                for entry in self.registry.list() {
                    let top = Place { scope: Scope::Container(entry.slot), node: Node::Top };
                    add(entry.name.as_str(), top, Kind::Directory);
                }
            }
            Node::Proc => self.list_proc("", place, &mut add),
            Node::ProcDir(dir) => self.list_proc(dir.path(), place, &mut add),
            Node::Sys => add("devices", place.sibling(Node::SysDevices), Kind::Directory),
            Node::SysDevices => add("system", place.sibling(Node::SysDevicesSystem), Kind::Directory),
            Node::SysDevicesSystem => {
                add("cpu", place.sibling(Node::SysCpu { path: 0 }), Kind::Directory);
                if self.host.node_tree().is_some() {
                    add("node", place.sibling(Node::SysNode { path: 0 }), Kind::Directory);
                }
            }
            Node::SysNode { .. } | Node::SysNodeN { .. } => self.list_node(place, tid, &mut add)?,
            Node::SysCpu { path } => {
                let path = self.path(Family::Directory, path)?;
                self.list_mirrored(
                    place,
                    &path,
                    tid,
                    &mut |name| match cpu_number(name) {
                        Some(cpu) if path.is_empty() => Some(Node::SysCpuN { cpu, path: 0 }),
                        _ => Some(Node::SysCpu {
                            path: self.paths().number(Family::Directory, &join(&path, name))?,
                        }),
                    },
                    &mut add,
                )?;
            }
            Node::SysCpuN { cpu, path } => {
                let path = self.path(Family::CpuN, path)?;
                self.list_mirrored(
                    place,
                    &cpu_path(cpu, &path),
                    tid,
                    &mut |name| {
                        let path = self.paths().number(Family::CpuN, &join(&path, name))?;
                        Some(Node::SysCpuN { cpu, path })
                    },
                    &mut add,
                )?;
            }
            Node::ProcFile(_) => return Err(Refusal(Errno::ENOTDIR)),
        }
        Ok(entries)
    }

    /// Adds the entries of a directory below `proc`.
    fn list_proc(&self, dir: &str, place: Place, add: &mut dyn FnMut(&str, Place, Kind)) {
        let mut last = None;
        for file in self.proc_files() {
            let below = if dir.is_empty() { Some(file.name()) } else { below(file.name(), dir) };
            match below.map(|path| path.split_once('/').unwrap_or((path, ""))) {
                Some((name, "")) => add(name, place.sibling(Node::ProcFile(file)), Kind::File),
                // the files of one directory stand together
                Some((name, _)) if last != Some(name) => {
                    last = Some(name);
                    if let Some(child) = ProcDir::find(&join(dir, name)) {
                        add(name, place.sibling(Node::ProcDir(child)), Kind::Directory);
                    }
                }
                _ => {}
            }
        }
    }

    /// Adds the entries of a directory below the CPU directory as the thread sees them; `node` says which each is.
    fn list_mirrored(
        &self,
        place: Place,
        path: &str,
        tid: u32,
        node: &mut dyn FnMut(&str) -> Option<Node>,
        add: &mut dyn FnMut(&str, Place, Kind),
    ) -> Result<(), Refusal> {
        if let Scope::Container(slot) = place.scope
            && !self.resolver.may_open(slot, tid)
        {
            return Err(Refusal(Errno::EACCES));
        }
        let path = Path::new(path);
        let entries = match self.view(place.scope, tid)? {
            View::Container(contained) => {
                readings::sys_cpu_list_dir(path, &contained.subject, &self.host, &contained.policies())?
            }
            View::Host => self.host.cpus().list(path)?,
            View::Unknown => return Err(Refusal(Errno::EIO)),
        };
        for SysEntry { name, kind } in entries {
            if let Some((name, node)) = name.to_str().and_then(|name| Some((name, node(name)?))) {
                add(name, place.sibling(node), kind.into());
            }
        }
        Ok(())
    }

    fn parent(&self, place: Place) -> Result<Place, Refusal> {
        let above = |family, number| -> Result<Option<u32>, Refusal> {
            let path = self.path(family, number)?;
            Ok(match path.rsplit_once('/') {
                Some((above, _)) => self.paths().number(family, above),
                None => Some(0),
            })
        };
        let lost = Refusal(Errno::ENOENT);
        Ok(place.sibling(match place.node {
            Node::Top if place.scope != Scope::Reader => {
                return Ok(Place { scope: Scope::Reader, node: Node::Containers });
            }
            Node::Top | Node::Containers | Node::Proc | Node::Sys => Node::Top,
            Node::ProcDir(dir) => proc_parent(dir.path()),
            Node::ProcFile(file) => proc_parent(file.name()),
            Node::SysDevices => Node::Sys,
            Node::SysDevicesSystem => Node::SysDevices,
            Node::SysCpu { path: 0 } | Node::SysNode { path: 0 } => Node::SysDevicesSystem,
            Node::SysNode { path } => Node::SysNode { path: above(Family::Node, path)?.ok_or(lost)? },
            Node::SysNodeN { path: 0, .. } => Node::SysNode { path: 0 },
            Node::SysNodeN { node, path } => {
                Node::SysNodeN { node, path: above(Family::NodeN, path)?.ok_or(lost)? }
            }
            Node::SysCpu { path } => Node::SysCpu { path: above(Family::Directory, path)?.ok_or(lost)? },
            Node::SysCpuN { path: 0, .. } => Node::SysCpu { path: 0 },
            Node::SysCpuN { cpu, path } => {
                Node::SysCpuN { cpu, path: above(Family::CpuN, path)?.ok_or(lost)? }
            }
        }))
    }
}

/// The rest of a path below a directory.
fn below<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    path.strip_prefix(dir)?.strip_prefix('/')
}

/// The directory that a path below `proc` is in.
fn proc_parent(path: &str) -> Node {
    let dir = path.rsplit_once('/').and_then(|(dir, _)| ProcDir::find(dir));
    dir.map_or(Node::Proc, Node::ProcDir)
}
