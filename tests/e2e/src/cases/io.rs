//! diskstats: a container's own traffic, nobody else's, in the kernel's shape.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Row;
use crate::case::Needs::Nothing;
use crate::case::{Doing, Outcome, check, check_eq, check_in};
use crate::shell::Shell;

pub const CASES: &[Row] = &[
    ("io_sectors_are_the_containers_own", Nothing, own_sectors),
    ("io_disks_that_were_not_used_are_not_shown", Nothing, unused_disks),
];

/// The numbers of each disk by its name.
type Disks = BTreeMap<String, Vec<u64>>;

fn parse(text: &str) -> Outcome<Disks> {
    let mut disks = Disks::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [major, minor, name, numbers @ ..] = words.as_slice() else {
            crate::case::fail!("diskstats line {line:?}");
        };
        check!(
            line.starts_with(&format!("{major:>4} {minor:>7} {name} ")),
            "columns of the diskstats line {line:?}"
        );
        let numbers: Result<Vec<u64>, _> = numbers.iter().map(|number| number.parse()).collect();
        check!(disks.insert((*name).to_owned(), numbers.doing(line)?).is_none(), "{name} twice in {text:?}");
    }
    Ok(disks)
}

/// A folder of this case on a real disk.
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// The disk's numbers, `MAJ:MIN`.
    pub numbers: String,
    /// The disk's name in diskstats.
    pub disk: String,
}

impl Folder {
    /// In the virtual machine /scratch is on a disk, elsewhere /var/tmp has to be.
    pub fn new() -> Outcome<Self> {
        let scratch = Path::new("/scratch");
        let parent = if scratch.is_dir() { scratch } else { Path::new("/var/tmp") };
        let path = parent.join(format!("ownproc-e2e-io-{}", std::process::id()));
        std::fs::create_dir_all(&path).doing(path.display())?;
        let device = std::fs::metadata(&path)?.dev();
        let numbers = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let link = std::fs::read_link(format!("/sys/dev/block/{numbers}"))
            .doing(format!("{} is on no disk", path.display()))?;
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_partition = link.components().count() > 1
            && Path::new(&format!("/sys/dev/block/{numbers}/partition")).exists();
        let (disk, numbers) = if is_partition {
            let whole = link.parent().map(name).unwrap_or_default();
            let numbers = std::fs::read_to_string(format!("/sys/block/{whole}/dev"))?.trim().to_owned();
            (whole, numbers)
        } else {
            (name(&link), numbers)
        };
        Ok(Self { path, numbers, disk })
    }

    /// Value of `-v` that makes it `/io`.
    pub fn volume(&self) -> String {
        format!("{}:/io", self.path.display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// v1 counts only on disks where some group was ever given a throttle: one so high that it holds nobody back, in a group
/// without a process, taken away again. v2 needs none.
struct Counting {
    group: Option<PathBuf>,
    numbers: String,
}

const THROTTLE: &str = "blkio.throttle.write_bps_device";

impl Counting {
    fn on(numbers: &str) -> Outcome<Self> {
        let table = std::fs::read_to_string("/proc/self/mountinfo")?;
        let root = table.lines().find_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let options = filesystem.strip_prefix("cgroup ")?.rsplit(' ').next()?;
            options.split(',').any(|option| option == "blkio").then(|| mount.split(' ').nth(4))?
        });
        let mut counting = Self { group: None, numbers: numbers.to_owned() };
        if let Some(root) = root {
            let group = Path::new(root).join(format!("ownproc-e2e-io-{}", std::process::id()));
            std::fs::create_dir(&group).doing(group.display())?;
            let file = group.join(THROTTLE);
            counting.group = Some(group);
            std::fs::write(&file, format!("{numbers} {}", 1_u64 << 50)).doing(file.display())?;
        }
        Ok(counting)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            let _ = std::fs::write(group.join(THROTTLE), format!("{} 0", self.numbers));
            let _ = std::fs::remove_dir(group);
        }
    }
}

const MIB: u64 = 1 << 20;

fn own_sectors() -> Outcome {
    let folder = Folder::new()?;
    let _counting = Counting::on(&folder.numbers)?;
    let volume = folder.volume();
    let mut writer = Shell::launch(&["-v", &volume])?;
    let mut neighbour = Shell::launch(&["-v", &volume])?;
    let columns = |text: &str| text.lines().next().map_or(0, |line| line.split_whitespace().count());
    let of_host = columns(&std::fs::read_to_string("/proc/diskstats")?);

    let numbers = |disks: &Disks| disks.get(&folder.disk).cloned().unwrap_or_else(|| vec![0; 17]);
    let before = numbers(&parse(&writer.read("diskstats")?)?);
    writer.run("dd if=/dev/zero of=/io/file bs=1M count=10 oflag=direct 2>/dev/null")?;
    let half = numbers(&parse(&writer.read("diskstats")?)?);
    writer.run("dd if=/dev/zero of=/io/file bs=1M count=10 seek=10 oflag=direct 2>/dev/null")?;
    writer.run("dd if=/io/file of=/dev/null bs=1M count=5 iflag=direct 2>/dev/null")?;
    let text = writer.read("diskstats")?;
    let after = numbers(&parse(&text)?);
    check_eq!(columns(&text), of_host, "columns of diskstats");
    for ((before, half), after) in before.iter().zip(&half).zip(&after) {
        check!(before <= half && half <= after, "a number went down: {before} {half} {after}");
    }
    let rise = |column: usize| after[column] - before[column];
    check_in!(rise(6), 20 * MIB / 512..=21 * MIB / 512, "sectors of {} written by 20 MiB", folder.disk);
    check_in!(half[6] - before[6], 10 * MIB / 512..=105 * MIB / 10 / 512, "sectors written by 10 MiB");
    check_in!(rise(2), 5 * MIB / 512..=525 * MIB / 100 / 512, "sectors read by 5 MiB");
    check_in!(rise(4), 5..=3000, "requests for 20 MiB");
    for column in [1, 3, 5, 7, 8, 9, 10] {
        check_eq!(after[column], 0, "column {column}, which no group is told");
    }

    // what the neighbour did at its start was before: now it does nothing
    let neighbours = numbers(&parse(&neighbour.read("diskstats")?)?);
    check_in!(neighbours[6], 0..=100, "sectors written by the neighbour, which wrote nothing");
    check_in!(neighbours[2], 0..=5 * MIB / 512 - 1, "sectors read by the neighbour");
    let hosts = parse(&std::fs::read_to_string(crate::daemon::shared("proc/diskstats")?)?)?;
    let own = parse(&std::fs::read_to_string("/proc/diskstats")?)?;
    check_eq!(
        hosts.keys().collect::<Vec<_>>(),
        own.keys().collect::<Vec<_>>(),
        "disks that the host's readers see"
    );
    Ok(())
}

fn unused_disks() -> Outcome {
    let mut shell = Shell::launch(&[])?;
    let disks = parse(&shell.read("diskstats")?)?;
    let hosts = parse(&std::fs::read_to_string("/proc/diskstats")?)?;
    for (name, numbers) in &disks {
        check!(numbers.iter().any(|number| *number > 0), "{name} is shown and was never used");
        check!(hosts.contains_key(name), "{name} is no disk of the host");
    }
    check!(!disks.keys().any(|name| name.starts_with("loop")), "loop devices nobody uses: {disks:?}");
    Ok(())
}
