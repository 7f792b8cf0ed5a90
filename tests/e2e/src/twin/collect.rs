//! What one side of the twin test leaves for the comparison: every virtual file, after the same small workload.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::case::{Doing, Outcome, check};

/// Files that are read before and after the workload: what it adds to them is compared as well.
const GROWING: &[&str] = &["proc/diskstats", "proc/meminfo", "proc/stat", "proc/uptime", "proc/vmstat"];
/// How long the workload takes where nothing delays it.
const LASTS: Duration = Duration::from_secs(5);
/// CPU time that this process has used at its end, at least.
const BURNS: Duration = Duration::from_millis(2500);
/// A folder on a disk, for page cache; the same path on both sides.
pub const DISK: &str = "/scratch";
const CACHE_MIB: usize = 16;
const SHMEM_MIB: usize = 8;
const ANON_MIB: usize = 32;

/// What was found: paths without the leading slash.
#[derive(Debug, Default)]
pub struct Collected {
    /// Release of the kernel.
    pub kernel: String,
    /// Contents of files; of directories, with a slash behind the path, the names in them, one a line.
    pub files: BTreeMap<String, String>,
    /// Contents before and after the workload.
    pub growth: BTreeMap<String, (String, String)>,
    /// What the workload took between the two, by the program's own clocks, in seconds: of the wall, and CPU time.
    pub took: (f64, f64),
}

impl Collected {
    /// From the text of [`Self::to_json`].
    pub fn parse(json: &str) -> Outcome<Self> {
        let value: serde_json::Value = serde_json::from_str(json)?;
        let kernel = value["kernel"].as_str().doing("kernel")?.to_owned();
        let mut collected = Self { kernel, ..Self::default() };
        for (path, text) in value["files"].as_object().doing("files")? {
            collected.files.insert(path.clone(), text.as_str().doing(path)?.to_owned());
        }
        let seconds = |at: usize| value["took"][at].as_f64().doing("took");
        collected.took = (seconds(0)?, seconds(1)?);
        for (path, pair) in value["growth"].as_object().doing("growth")? {
            let text = |at: usize| pair[at].as_str().map(str::to_owned).doing(path);
            collected.growth.insert(path.clone(), (text(0)?, text(1)?));
        }
        Ok(collected)
    }

    /// One JSON object.
    pub fn to_json(&self) -> String {
        serde_json::json!({ "kernel": self.kernel, "files": self.files, "growth": self.growth, "took": self.took }).to_string()
    }

    /// The paths that the other side has to collect: roots, not what is below them.
    pub fn roots(&self) -> Vec<&str> {
        let paths = self.files.keys().map(|path| path.trim_end_matches('/')).filter(|path| *path != "proc");
        let mut roots: Vec<&str> = Vec::new();
        for path in paths {
            // sorted: a directory stands before what is below it
            let below = roots
                .last()
                .is_some_and(|root| path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/')));
            if !below {
                roots.push(path);
            }
        }
        roots
    }
}

/// `collect FILE [ROOT...]`: does the workload, then writes to FILE what the roots hold; without a ROOT all
/// that a FUSE file system serves below /proc and /sys.
pub fn main(file: &str, roots: &[&str]) -> Outcome {
    let mut roots: Vec<String> = roots.iter().map(|root| (*root).to_owned()).collect();
    if roots.is_empty() {
        roots = served()?;
    }
    check!(!roots.is_empty(), "no virtual file is mounted here");
    let collected = collect(&roots)?;
    fs::write(file, collected.to_json()).doing(file)
}

/// Mount points of a FUSE file system below /proc and /sys.
fn served() -> Outcome<Vec<String>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let mounts = text.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?.strip_prefix('/')?;
        let ours =
            filesystem.starts_with("fuse") && (point.starts_with("proc/") || point.starts_with("sys/"));
        ours.then(|| point.to_owned())
    });
    Ok(mounts.collect())
}

fn collect(roots: &[String]) -> Outcome<Collected> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    let mut collected = Collected { kernel, ..Collected::default() };
    let growing: Vec<&str> =
        GROWING.iter().copied().filter(|path| roots.iter().any(|root| root == path)).collect();
    let mut before = BTreeMap::new();
    for path in &growing {
        before.insert(*path, contents(Path::new("/").join(path).as_path())?);
    }
    let (began, used) = (Instant::now(), crate::tools::process_cpu()?);
    let held = workload()?;
    let used = crate::tools::process_cpu()?.saturating_sub(used);
    collected.took = (began.elapsed().as_secs_f64(), used.as_secs_f64());
    for path in growing {
        let after = contents(Path::new("/").join(path).as_path())?;
        let before = before.remove(path).unwrap_or_default();
        collected.growth.insert(path.to_owned(), (before, after));
    }
    for root in roots {
        walk(root, &mut collected.files)?;
    }
    collected.files.insert("proc/".to_owned(), names_of_proc()?);
    drop(held);
    Ok(collected)
}

/// What is kept while the files are read.
struct Held {
    _locked: nix::fcntl::Flock<File>,
    _anon: Vec<u8>,
}

/// Some page cache, some shared memory, some memory of its own, some CPU time, a lock.
fn workload() -> Outcome<Held> {
    let began = Instant::now();
    let piece = vec![1_u8; 1 << 20];
    let fill = |path: String, mib: usize| -> Outcome {
        let mut file = File::create(&path).doing(&path)?;
        (0..mib).try_for_each(|_| file.write_all(&piece)).doing(&path)?;
        file.sync_all().doing(&path)?;
        File::open(&path).doing(&path)?.read_to_end(&mut Vec::new()).doing(&path)?;
        Ok(())
    };
    fill(format!("{DISK}/twin"), CACHE_MIB)?;
    fill("/dev/shm/twin".to_owned(), SHMEM_MIB)?;
    let mut anon = vec![0_u8; ANON_MIB << 20];
    anon.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::hint::black_box(&anon);
    while crate::tools::process_cpu()? < BURNS {
        (0..100_000).for_each(|_| std::hint::spin_loop());
    }
    std::thread::sleep(LASTS.saturating_sub(began.elapsed()));
    let file = File::open(format!("{DISK}/twin"))?;
    let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive);
    Ok(Held { _locked: lock.map_err(|(_, error)| error).doing("a lock")?, _anon: anon })
}

/// A file's text; `(errno N)` where it cannot be read, since both sides must fail alike.
fn contents(path: &Path) -> Outcome<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    Ok(match read() {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(errno {})", error.raw_os_error().unwrap_or(0)),
    })
}

/// Adds a file, or a directory with all below it.
fn walk(path: &str, files: &mut BTreeMap<String, String>) -> Outcome {
    let full = Path::new("/").join(path);
    if !full.is_dir() {
        files.insert(path.to_owned(), contents(&full)?);
        return Ok(());
    }
    let (mut names, mut below) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(&full).doing(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            names.push(format!("{name}@"));
            let target = fs::read_link(entry.path())?.display().to_string();
            files.insert(format!("{path}/{name}"), target);
        } else {
            names.push(format!("{name}{}", if kind.is_dir() { "/" } else { "" }));
            below.push(format!("{path}/{name}"));
        }
    }
    // A directory's order is nobody's promise.
    names.sort();
    files.insert(format!("{path}/"), names.iter().map(|name| format!("{name}\n")).collect());
    below.iter().try_for_each(|path| walk(path, files))
}

/// The names in /proc but for those of processes.
fn names_of_proc() -> Outcome<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) {
            names.push(format!("{name}\n"));
        }
    }
    names.sort();
    Ok(names.concat())
}
