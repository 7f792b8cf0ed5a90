//! A container that changes its own groups.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Instant;

use super::{Ground, fork, pread, raw, until};
use crate::case::{Doing, Outcome, check};

/// A group below the own one, in each hierarchy.
fn below(ground: &Ground, name: &str) -> Vec<PathBuf> {
    ground.groups.iter().map(|group| group.join(name)).collect()
}

fn make(dirs: &[PathBuf]) -> Outcome {
    for dir in dirs {
        match fs::create_dir(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error).doing(dir.display()),
            _ => {}
        }
        // A new cpuset group of v1 takes nobody before it has CPUs and memory.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (own, above) = (dir.join(file), dir.join("..").join(file));
            if fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty())
                && let Ok(text) = fs::read_to_string(&above)
            {
                let _ = fs::write(&own, text); // v2: empty, and may stay so
            }
        }
    }
    Ok(())
}

/// Moves the calling process; 0 is whoever writes.
fn enter(dirs: &[PathBuf]) -> Outcome {
    dirs.iter().try_for_each(|dir| fs::write(dir.join("cgroup.procs"), "0").doing(dir.display()))
}

fn remove(dirs: &[PathBuf]) {
    for dir in dirs {
        let _ = fs::remove_dir(dir); // busy for a moment after its last process: the tests remove what stays
    }
}

/// Moves between two groups with a file open, which it reads from either.
pub fn move_around(ground: &Ground, end: Instant) -> Outcome<u64> {
    check!(!ground.groups.is_empty(), "no groups to move between");
    let pid = std::process::id();
    let homes = [below(ground, &format!("a{pid}")), below(ground, &format!("b{pid}"))];
    homes.iter().try_for_each(|dirs| make(dirs))?;
    let done = until(end, |round| {
        let file = ground.open(round)?;
        let mut buffer = [0; 4096];
        enter(&homes[usize::try_from(round % 2)?])?;
        let got = pread(raw(&file), &mut buffer, 0);
        check!(got >= 0, "{} after a move: errno {}", ground.file(round).display(), -got);
        Ok(2)
    });
    enter(&below(ground, "rest")).or_else(|_| {
        make(&below(ground, "rest"))?;
        enter(&below(ground, "rest"))
    })?;
    homes.iter().for_each(|dirs| remove(dirs));
    done
}

/// Makes a group, opens a file in it, leaves and deletes it, and reads on.
pub fn delete(ground: &Ground, end: Instant) -> Outcome<u64> {
    check!(!ground.groups.is_empty(), "no groups to delete");
    let pid = std::process::id();
    let home = below(ground, &format!("home{pid}"));
    make(&home)?;
    let done = until(end, |round| {
        let dirs = below(ground, &format!("d{pid}-{round}"));
        make(&dirs)?;
        enter(&dirs)?;
        let file = ground.open(round)?;
        let mut buffer = [0; 4096];
        pread(raw(&file), &mut buffer, 0);
        // One that stays a moment longer and dies inside.
        let child = fork(|| {
            let mut buffer = [0; 64];
            pread(raw(&file), &mut buffer, 0);
        })?;
        enter(&home)?;
        nix::sys::wait::waitpid(child, None)?;
        remove(&dirs);
        let got = pread(raw(&file), &mut buffer, 0);
        check!(got >= 0, "{} of a group that is gone: errno {}", ground.file(round).display(), -got);
        Ok(4)
    });
    let rest = below(ground, "rest");
    make(&rest)?;
    enter(&rest)?;
    remove(&home);
    done
}
