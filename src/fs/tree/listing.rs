//! What a directory lists.

use std::path::Path;

use nix::errno::Errno;

use super::{Entry, Kind, Tree, cpu_path, join};
use crate::containers::View;
use crate::fs::Refusal;
use crate::fs::inode::{Node, Place, Scope};
use crate::fs::sysfs::{Family, cpu_number};
use crate::host::SysEntry;
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
            Node::SysCpu { path } => {
                let path = self.path(Family::Directory, path)?;
                self.list_mirrored(
                    place,
                    &path,
                    tid,
                    &mut |name| match cpu_number(name) {
                        Some(cpu) if path.is_empty() => Some(Node::SysCpuN { cpu, path: 0 }),
                        _ => Some(Node::SysCpu {
                            path: self.paths.number(Family::Directory, &join(&path, name))?,
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
                        let path = self.paths.number(Family::CpuN, &join(&path, name))?;
                        Some(Node::SysCpuN { cpu, path })
                    },
                    &mut add,
                )?;
            }
            Node::ProcFile(_) => return Err(Refusal(Errno::ENOTDIR)),
        }
        Ok(entries)
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
                readings::sys_cpu_list_dir(path, &contained.subject, &self.host, &contained.policies)?
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
