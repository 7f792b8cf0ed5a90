//! Two builds of the program, exchanged under a daemon; and programs that are no build of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::case::{Doing, Outcome, check};
use crate::programs;

/// What is put in the program's place.
#[derive(Clone, Copy, Debug)]
pub enum Broken {
    /// The program without the right to run it.
    NotExecutable,
    /// Nothing.
    Missing,
    /// A program that exits with 1 at once.
    ExitsAtOnce,
    /// No program at all.
    Garbage,
    /// The program, but of another layout of the shared memory.
    OtherLayout,
    /// A program that never gets ready; it is given up after 20 s.
    NeverReady,
}

/// All of them.
pub const BROKEN: [Broken; 6] = [
    Broken::NotExecutable,
    Broken::Missing,
    Broken::ExitsAtOnce,
    Broken::Garbage,
    Broken::OtherLayout,
    Broken::NeverReady,
];

/// A program on disk that is replaced.
pub struct Builds {
    dir: PathBuf,
    holder: Option<Pid>,
    /// Which build lies there.
    second: bool,
}

impl Builds {
    /// In a directory of the tests' own.
    pub fn new() -> Outcome<Self> {
        let dir = PathBuf::from(format!("/var/tmp/ownproc-e2e-builds-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let builds = Self { dir, holder: None, second: false };
        builds.put(&fs::read(programs::bin_dir()?.join("ownproc"))?, 0o755)?;
        Ok(builds)
    }

    /// The program that the daemon is to be started from.
    pub fn program(&self) -> PathBuf {
        self.dir.join("ownproc")
    }

    /// Whom to tell.
    pub fn of(&mut self, holder: Pid) {
        self.holder = Some(holder);
    }

    /// Puts the other build there and says so.
    pub fn exchange(&mut self) -> Outcome {
        self.second = !self.second;
        let mut program = fs::read(programs::bin_dir()?.join("ownproc"))?;
        if self.second {
            program.push(0); // after the end of all sections: the same program with another build id
        }
        self.put(&program, 0o755)?;
        self.tell()
    }

    /// Puts something else there and says so.
    pub fn put_broken(&mut self, kind: Broken) -> Outcome {
        let ours = |name: &str| -> Outcome<Vec<u8>> { Ok(fs::read(programs::bin_dir()?.join(name))?) };
        match kind {
            Broken::NotExecutable => self.put(&ours("ownproc")?, 0o644)?,
            Broken::Missing => fs::remove_file(self.program())?,
            Broken::ExitsAtOnce => self.put(&fs::read("/bin/false")?, 0o755)?,
            Broken::Garbage => self.put(&[7; 4096], 0o755)?,
            Broken::OtherLayout => self.put(&other_layout(ours("ownproc")?)?, 0o755)?,
            Broken::NeverReady => self.put(&fs::read(programs::own()?)?, 0o755)?,
        }
        self.tell()
    }

    /// Whether a process runs what lies there now.
    pub fn runs(&self, pid: Pid) -> Outcome {
        let (lies, runs) = (fs::metadata(self.program())?, fs::metadata(format!("/proc/{pid}/exe"))?);
        check!(lies.ino() == runs.ino(), "the new worker (pid {pid}) runs another program than lies on disk");
        Ok(())
    }

    fn put(&self, program: &[u8], mode: u32) -> Outcome {
        let new = self.dir.join("new");
        fs::write(&new, program)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
        fs::rename(&new, self.program()).doing(self.program().display())
    }

    fn tell(&self) -> Outcome {
        kill(self.holder.doing("a daemon")?, Signal::SIGHUP).doing("SIGHUP")
    }
}

impl Drop for Builds {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(Path::new(&self.dir));
    }
}

/// The same program, but for the number by which it knows the shared memory: `ownproc` and the layout's number, with the
/// size in the upper half (`session::page`).
fn other_layout(mut program: Vec<u8>) -> Outcome<Vec<u8>> {
    let mut found = 0;
    for at in 0..program.len().saturating_sub(8) {
        if let Some([b'o', b'w', b'n', b'p', _, _, b'c', layout @ 1..=9]) = program.get_mut(at..at + 8) {
            *layout += 100;
            found += 1;
        }
    }
    check!(found > 0, "the program has no number of a layout");
    Ok(program)
}
