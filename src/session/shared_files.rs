//! The files that all containers share are kept open: a file that somebody reads cannot be leased for writing
//! (fcntl(2), F_SETLEASE), and a lease makes everybody else's open wait until it is broken. Nor can one that somebody
//! has open for writing be leased for reading, which matters where it can be opened for writing.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::confine::{self, WorkerNeeds};
use super::link::{self, Word};
use super::serve::{Options, SessionError};
use super::worker::Endowment;

/// Shared files that are held open at most: those of some 40 CPUs.
const MOST_HELD: usize = 2048;

/// The life of the opener: one read, which shows that the mount is served, and then the shared files, which are given
/// to the holder. It may have to wait for several workers.
pub(super) fn work(options: &Options) -> Result<(), SessionError> {
    let _ = rustix::thread::set_name(c"ownproc-opener");
    confine::worker(&WorkerNeeds { psi_triggers: false })?;
    // The connection is for workers: this process must not keep it.
    let link = Endowment::take()?.link;
    let file = options.mountpoint.join("proc/uptime");
    let read = std::fs::read(&file);
    read.map_err(|source| SessionError::FirstRead { path: file, source })?;
    link::say(link.as_fd(), Word::Answered, &[])?;
    link::hand_over(link.as_fd(), &open(&options.mountpoint, options.psi_triggers))?;
    Ok(link::say(link.as_fd(), Word::Opened, &[])?)
}

/// Opens them through the mount at `path`, which somebody must answer; `writable`: pressure files for writing too.
fn open(path: &Path, writable: bool) -> Vec<File> {
    let open = |path: &PathBuf| {
        let writes = writable && path.parent().is_some_and(|dir| dir.ends_with("proc/pressure"));
        File::options().read(true).write(writes).open(path).ok()
    };
    let mut files = Vec::new();
    files_below(&[path.join("proc"), path.join("sys")], MOST_HELD, &mut files);
    files.iter().filter_map(open).collect()
}

/// The regular files below some directories, those of the upper ones first.
fn files_below(directories: &[PathBuf], most: usize, files: &mut Vec<PathBuf>) {
    let mut below = Vec::new();
    for entry in directories.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => below.push(entry.path()),
            Ok(kind) if kind.is_file() && files.len() < most => files.push(entry.path()),
            _ => {}
        }
    }
    if !below.is_empty() && files.len() < most {
        files_below(&below, most, files);
    }
}
