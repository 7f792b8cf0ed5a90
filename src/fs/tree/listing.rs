//! What a directory lists.

use nix::errno::Errno;

use super::{Entry, Kind, Tree, join};
use crate::containers::View;
use crate::fs::Refusal;
use crate::fs::inode::{Node, Place, Scope};
use crate::fs::sysfs::{Family, cpu_number};
use crate::readings;
use crate::render::PROC_FILES;

impl Tree {
    /// The entries of a directory as the thread `tid` sees it, `.` and `..` included.
    pub fn list(&self, place: Place, tid: u32) -> Result<Vec<Entry>, Refusal> {
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
            Node::Proc => {
                for &(path, file) in PROC_FILES {
                    if let Some(name) = path.strip_prefix("proc/") {
                        add(name, place.sibling(Node::ProcFile(file)), Kind::File);
                    }
                }
            }
            Node::Sys => add("devices", place.sibling(Node::SysDevices), Kind::Directory),
            Node::SysDevices => add("system", place.sibling(Node::SysDevicesSystem), Kind::Directory),
            Node::SysDevicesSystem => add("cpu", place.sibling(Node::SysCpu { path: 0 }), Kind::Directory),
            Node::SysCpu { path } => self.list_sys_cpu(place, path, tid, &mut add)?,
            Node::SysCpuN { cpu, path } => {
                let path = self.path(Family::CpuN, path)?;
                for (name, kind) in self.sys_entries(&join(&format!("cpu{cpu}"), &path)) {
                    if let Some(path) = self.paths.number(Family::CpuN, &join(&path, &name)) {
                        add(&name, place.sibling(Node::SysCpuN { cpu, path }), kind.into());
                    }
                }
            }
            Node::ProcFile(_) => return Err(Refusal(Errno::ENOTDIR)),
        }
        Ok(entries)
    }

    fn list_sys_cpu(
        &self,
        place: Place,
        path: u32,
        tid: u32,
        add: &mut dyn FnMut(&str, Place, Kind),
    ) -> Result<(), Refusal> {
        let shown = match self.view(place.scope, tid)? {
            View::Container(contained) if path == 0 => {
                let (_, shown) = readings::cpus(&contained.subject, &self.host, &contained.policies)?;
                Some(shown.numbers())
            }
            _ => None,
        };
        if let Some(shown) = &shown {
            for cpu in shown.iter() {
                let cpu = u16::try_from(cpu).map_err(|_| Refusal(Errno::EIO))?;
                add(&format!("cpu{cpu}"), place.sibling(Node::SysCpuN { cpu, path: 0 }), Kind::Directory);
            }
        }
        let path = self.path(Family::Directory, path)?;
        for (name, kind) in self.sys_entries(&path) {
            let node = match cpu_number(&name) {
                Some(_) if shown.is_some() => continue,
                Some(cpu) if path.is_empty() => Node::SysCpuN { cpu, path: 0 },
                _ => match self.paths.number(Family::Directory, &join(&path, &name)) {
                    Some(path) => Node::SysCpu { path },
                    None => continue,
                },
            };
            add(&name, place.sibling(node), kind.into());
        }
        Ok(())
    }

    fn parent(&self, place: Place) -> Result<Place, Refusal> {
        let above = |family, number| -> Result<Option<u32>, Refusal> {
            let path = self.path(family, number)?;
            Ok(match path.rsplit_once('/') {
                Some((above, _)) => self.paths.number(family, above),
                None => Some(0),
            })
        };
        let lost = Refusal(Errno::ENOENT);
        Ok(place.sibling(match place.node {
            Node::Top if place.scope != Scope::Reader => {
                return Ok(Place { scope: Scope::Reader, node: Node::Containers });
            }
            Node::Top | Node::Containers | Node::Proc | Node::Sys => Node::Top,
            Node::ProcFile(_) => Node::Proc,
            Node::SysDevices => Node::Sys,
            Node::SysDevicesSystem => Node::SysDevices,
            Node::SysCpu { path: 0 } => Node::SysDevicesSystem,
            Node::SysCpu { path } => Node::SysCpu { path: above(Family::Directory, path)?.ok_or(lost)? },
            Node::SysCpuN { path: 0, .. } => Node::SysCpu { path: 0 },
            Node::SysCpuN { cpu, path } => {
                Node::SysCpuN { cpu, path: above(Family::CpuN, path)?.ok_or(lost)? }
            }
        }))
    }
}
