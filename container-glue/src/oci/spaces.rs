//! `ns`: which namespaces two processes or containers share.

use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;

use ownproc::control::Client;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::args::{Global, NsArgs};
use super::config::namespaces::KINDS;
use super::store::{Record, Store};
use super::{OciError, create, id, inspect};

/// A namespace as nsfs names it: device and inode. Two that are the same are one namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    device: u64,
    inode: u64,
}

/// Whose namespaces are compared.
#[derive(Debug)]
struct Side {
    /// As it was typed.
    word: String,
    /// "process", "container", or "registered container".
    what: &'static str,
    pid: i32,
    /// In the order of [`KINDS`]; `None` for a kind that this kernel is built without.
    spaces: Vec<Option<Space>>,
}

/// `ns`.
pub fn show(global: &Global, args: &NsArgs) -> Result<(), OciError> {
    let (a, b) = (side(global, &args.a)?, side(global, &args.b)?);
    let text = if args.json { format!("{:#}", document(&a, &b)) } else { table(&a, &b) };
    inspect::print(text.trim_end())
}

/// Finds out what a word means: a container of this `--root`, a process, or one that the daemon knows, in that order.
fn side(global: &Global, word: &str) -> Result<Side, OciError> {
    if let Some(record) = of_root(global, word)? {
        let process = open(record.pid).ok().flatten();
        // looked at behind the open directory, which is of one process only
        let alive = process.filter(|_| record.alive().is_some());
        return look(word, "container", record.pid, alive.ok_or(OciError::NotRunning)?);
    }
    if let Ok(pid) = word.parse::<i32>() {
        let process = open(pid).map_err(|source| OciError::io("open", format!("/proc/{pid}"), source))?;
        if let Some(process) = process {
            return look(word, "process", pid, process);
        }
    }
    match of_daemon(word) {
        Some((pid, process)) => look(word, "registered container", pid, process),
        None => Err(OciError::Nobody(word.to_owned())),
    }
}

fn of_root(global: &Global, word: &str) -> Result<Option<Record>, OciError> {
    // nothing is made here: a root that is not there has no containers
    if id::check(word).is_err() || !global.root.exists() {
        return Ok(None);
    }
    match Store::open(&global.root)?.look(word) {
        Ok(entry) => entry.read().map(Some),
        Err(OciError::NoContainer(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A container of the daemon of `OWNPROC_MOUNT`, where one answers.
fn of_daemon(word: &str) -> Option<(i32, OwnedFd)> {
    let list = || Client::connect(&create::mount_point()).and_then(|client| client.list());
    let find = || list().ok()?.into_iter().find(|one| one.name.as_str() == word).map(|one| one.pid.get());
    let pid = find()?;
    let process = open(pid).ok().flatten()?;
    // asked again: it is registered for as long as its process lives, so the number was still that process's
    (find() == Some(pid)).then_some((pid, process))
}

/// The directory of a process in /proc; `None` where there is no such process.
fn open(pid: i32) -> io::Result<Option<OwnedFd>> {
    if pid <= 0 {
        return Ok(None);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        other => Ok(Some(other?)),
    }
}

fn look(word: &str, what: &'static str, pid: i32, process: OwnedFd) -> Result<Side, OciError> {
    let space = |(name, _): &(&str, i32)| match rustix::fs::statat(
        &process,
        format!("ns/{name}"),
        AtFlags::empty(),
    ) {
        Ok(stat) => Ok(Some(Space { device: stat.st_dev, inode: stat.st_ino })),
        // the kernel has none of that kind; an ended process has not even the directory
        Err(Errno::NOENT) if rustix::fs::statat(&process, "ns", AtFlags::empty()).is_ok() => Ok(None),
        Err(errno) => Err(OciError::io("look at", format!("/proc/{pid}/ns/{name}"), errno.into())),
    };
    let spaces = KINDS.iter().map(space).collect::<Result<Vec<_>, _>>()?;
    if spaces.iter().all(Option::is_none) {
        return Err(OciError::io("look at", format!("/proc/{pid}/ns"), io::ErrorKind::NotFound.into()));
    }
    Ok(Side { word: word.to_owned(), what, pid, spaces })
}

fn rows<'a>(
    a: &'a Side,
    b: &'a Side,
) -> impl Iterator<Item = (&'static str, Option<Space>, Option<Space>, bool)> + 'a {
    let pairs = a.spaces.iter().zip(&b.spaces);
    // a kernel without a kind of namespace has one for all
    KINDS.iter().zip(pairs).map(|((name, _), (a, b))| (*name, *a, *b, a == b))
}

fn document(a: &Side, b: &Side) -> Value {
    let side = |side: &Side| json!({ "name": side.word, "is": side.what, "pid": side.pid });
    let row = |(kind, a, b, shared): (&str, Option<Space>, Option<Space>, bool)| {
        json!({
            "kind": kind,
            "a": a.map(|space| space.inode),
            "b": b.map(|space| space.inode),
            "shared": shared,
        })
    };
    json!({ "a": side(a), "b": side(b), "namespaces": rows(a, b).map(row).collect::<Vec<_>>() })
}

fn table(a: &Side, b: &Side) -> String {
    let id = |space: Option<Space>| space.map_or_else(|| "-".to_owned(), |space| space.inode.to_string());
    let width = |side: &Side| side.word.chars().count().max(10) + 2;
    let (first, second) = (width(a), width(b));
    let mut text = format!("{:<8}{:<first$}{:<second$}\n", "KIND", a.word, b.word);
    for (kind, of_a, of_b, shared) in rows(a, b) {
        let word = if shared { "shared" } else { "own" };
        // never fails: a String takes all
        let _ = writeln!(text, "{kind:<8}{:<first$}{:<second$}{word}", id(of_a), id(of_b));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(word: &str, first: u64) -> Side {
        let spaces = (0..8).map(|at| Some(Space { device: 4, inode: if at == 3 { 7 } else { first + at } }));
        let mut spaces: Vec<_> = spaces.collect();
        spaces[7] = None;
        Side { word: word.to_owned(), what: "process", pid: 5, spaces }
    }

    #[test]
    fn the_same_inode_is_the_same_namespace() {
        let (a, b) = (made("a", 100), made("longer-than-ten", 200));
        let shared: Vec<_> = rows(&a, &b).filter(|row| row.3).map(|row| row.0).collect();
        assert_eq!(shared, [KINDS[3].0, KINDS[7].0]);
        let text = table(&a, &b);
        assert_eq!(text.lines().count(), 9);
        assert!(text.contains("100         200              own"), "{text}");
        assert!(text.contains("-           -                shared"), "{text}");
        let document = document(&a, &b);
        assert_eq!(document["namespaces"][3]["shared"], json!(true));
        assert_eq!(document["namespaces"][0], json!({"kind": "user", "a": 100, "b": 200, "shared": false}));
        assert_eq!(document["namespaces"][7]["a"], Value::Null);
    }

    #[test]
    fn the_same_number_on_another_device_is_another() {
        let (a, mut b) = (made("a", 100), made("b", 100));
        b.spaces[0] = Some(Space { device: 5, inode: 100 });
        assert_eq!(rows(&a, &b).filter(|row| !row.3).count(), 1);
    }

    #[test]
    fn processes() {
        let own = i32::try_from(std::process::id()).unwrap();
        let side = look("x", "process", own, open(own).unwrap().unwrap()).unwrap();
        assert!(side.spaces.iter().flatten().count() >= 7);
        assert!(
            open(0).unwrap().is_none() && open(-1).unwrap().is_none() && open(i32::MAX).unwrap().is_none()
        );
    }
}
