//! `attach --repair` and `detach`: mounts of ours that are there.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;

use super::{Failure, Ground, whose};
use crate::attach::kernel::{PLACE, STRICT, resolve};
use crate::attach::mounts::{self, Mount};
use crate::attach::place::Covered;
use crate::attach::probe::Life;
use crate::attach::report::{FileReport, Said, State};

/// Mounts of ours that may lie one over the other.
const MOST_LAYERS: usize = 32;

impl Ground<'_> {
    /// What dead mounts could be replaced with: the same file in the tree of the daemon that lives, as this container
    /// is given it, never as another one is.
    pub(super) fn replacements(&self) -> Result<HashMap<u64, Option<OwnedFd>>, Failure> {
        let mut sources = HashMap::new();
        for mount in self.table.iter().filter(|mount| self.is_foreign_ownproc(mount)) {
            let (_, tree) = self.open_tree()?;
            let path = mounts::served_path(&mount.root).map(|(_, path)| path);
            sources.insert(mount.id, path.and_then(|path| self.source(tree.as_fd(), &path).ok()));
        }
        Ok(sources)
    }

    /// Replaces dead mounts of our type, wherever they lie; living ones are not touched, nor told.
    pub(super) fn repair(
        &mut self,
        mut sources: HashMap<u64, Option<OwnedFd>>,
        say: &mut dyn FnMut(Said),
    ) -> Result<(), Failure> {
        for (mount, covered) in self.topmost(Self::is_foreign_ownproc) {
            let state = match covered {
                Err(why) => State::Left(why),
                Ok(covered) => match self.life(&mount, covered.top.as_fd()) {
                    Life::Living => continue,
                    // A copy of a mount point hides nothing of the container's own.
                    Life::Silent if mount.root == Path::new("/") => continue,
                    Life::Silent => State::Left("its daemon does not answer, but is not gone".to_owned()),
                    Life::Dead => match sources.remove(&mount.id).flatten() {
                        None => State::Left("dead, but the daemon has no such file".to_owned()),
                        Some(source) => self
                            .replace(&mount, &covered, &source)
                            .map_or_else(State::Left, |()| State::Repaired),
                    },
                },
            };
            say(Said::File(FileReport { path: mount.point, state }));
        }
        Ok(())
    }

    /// Takes our mounts away: those of the daemon that lives, and dead ones.
    pub(super) fn detach(&mut self, say: &mut dyn FnMut(Said)) -> Result<(), Failure> {
        let mut left: HashSet<u64> = HashSet::new();
        // What is taken away may uncover another one of ours.
        for _ in 0..MOST_LAYERS {
            // The whole tree is not over anything: it is the copy of the mount point that a new namespace begins with.
            let over = |_: &Self, mount: &Mount| {
                mount.is_ownproc() && mount.root != Path::new("/") && !left.contains(&mount.id)
            };
            let found = self.topmost(over);
            if found.is_empty() {
                break;
            }
            for (mount, covered) in found {
                let state = match covered {
                    Err(why) => State::Left(why),
                    Ok(covered) => {
                        self.take_away(&mount, &covered).map_or_else(State::Left, |()| State::Detached)
                    }
                };
                if state != State::Detached {
                    left.insert(mount.id);
                }
                say(Said::File(FileReport { path: mount.point, state }));
            }
            self.look()?;
        }
        Ok(())
    }

    fn take_away(&mut self, mount: &Mount, covered: &Covered) -> Result<(), Failure> {
        if !self.is_own(mount) {
            match self.life(mount, covered.top.as_fd()) {
                Life::Dead => {}
                life => return Err(format!("{}; --mount names its mount point", whose(life))),
            }
        }
        let below = self.below(mount, covered)?;
        self.stays_inside(&below)?;
        self.own.unmount(covered.top.as_fd()).map_err(|errno| match errno {
            rustix::io::Errno::INVAL => {
                "it came with a copy of another container's mounts, where it is locked".to_owned()
            }
            errno => format!("cannot take it away: {errno}"),
        })
    }

    /// The mounts of which this is true that nothing else covers, with what it takes to change them.
    fn topmost(&mut self, which: impl Fn(&Self, &Mount) -> bool) -> Vec<(Mount, Result<Covered, Failure>)> {
        let mut found: Vec<(Mount, Result<Covered, Failure>)> = Vec::new();
        let mounts: Vec<Mount> = self.table.iter().filter(|mount| which(self, mount)).cloned().collect();
        for mount in mounts {
            let covered = self.reach(&mount.point);
            let id = covered.as_ref().ok().and_then(|covered| self.own.mount_id(covered.top.as_fd()));
            if id.is_none_or(|id| id == mount.id) {
                found.push((mount, covered));
            }
        }
        let tops: Vec<_> = found
            .iter()
            .filter_map(|(mount, covered)| Some((mount, covered.as_ref().ok()?.top.as_fd())))
            .collect();
        self.learn(&tops);
        found
    }

    /// What lies at a mount point.
    fn reach(&self, point: &Path) -> Result<Covered, Failure> {
        let failed = |errno| format!("its place cannot be reached: {errno}");
        let path = point.strip_prefix("/").unwrap_or(point);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err("it is the container's root".to_owned());
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let dir = resolve(self.root.as_fd(), parent, PLACE | OFlags::DIRECTORY, STRICT).map_err(failed)?;
        let top = resolve(dir.as_fd(), Path::new(name), PLACE, STRICT).map_err(failed)?;
        Ok(Covered { dir, name: name.into(), top, at: path.to_owned(), last: true })
    }
}
