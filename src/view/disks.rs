//! The disks that a container has used.

use std::collections::BTreeMap;

use super::account::counter::Counter;
use crate::model::saved::{Saved, put, put_bytes};
use crate::model::{Bytes, DiskId, DiskUse, HostDisks, Transfer};

/// Disks that are remembered of one container. The numbers of loop devices and the like are given again and again;
/// beyond this many a further one is not shown.
const MOST: usize = 4096;

/// What was shown of each disk so far: no counter ever goes down (D5).
#[derive(Debug, Default)]
pub struct DiskAccount {
    disks: BTreeMap<DiskId, Known>,
}

#[derive(Debug, Default)]
struct Known {
    name: Option<String>,
    used: DiskUse,
    read: Followed,
    write: Followed,
    discard: Followed,
}

/// The kernel's two counters of one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Followed {
    bytes: Counter,
    operations: Counter,
}

impl Followed {
    fn add_to(&mut self, shown: &mut Transfer, now: Transfer) {
        shown.bytes = shown.bytes.plus(Bytes(self.bytes.delta(now.bytes.0)));
        shown.operations = shown.operations.saturating_add(self.operations.delta(now.operations));
    }
}

/// One line of diskstats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskView<'a> {
    /// Its numbers.
    pub disk: DiskId,
    /// Its name on the host.
    pub name: &'a str,
    /// All traffic since the container started.
    pub used: DiskUse,
}

impl DiskAccount {
    /// Takes a reading in; a counter that was started anew is followed from there (D5). A disk without any is not the container's (D1).
    pub fn advance(&mut self, disk: DiskId, used: DiskUse) {
        if used == DiskUse::NONE || (self.disks.len() >= MOST && !self.disks.contains_key(&disk)) {
            return;
        }
        let known = self.disks.entry(disk).or_default();
        known.read.add_to(&mut known.used.read, used.read);
        known.write.add_to(&mut known.used.write, used.write);
        known.discard.add_to(&mut known.used.discard, used.discard);
    }

    /// The lines: disks in the host's order, then those that the host does not list (any more) by number (D4). `find`
    /// names one that is not listed and was never; without a name there is no line.
    pub fn view<'a>(
        &'a mut self,
        host: &HostDisks,
        find: impl Fn(DiskId) -> Option<String>,
    ) -> Vec<DiskView<'a>> {
        for (disk, known) in &mut self.disks {
            let listed = host.names.iter().find(|(listed, _)| listed == disk).map(|(_, name)| name);
            match (listed, &known.name) {
                (Some(name), before) if before.as_ref() != Some(name) => known.name = Some(name.clone()),
                (None, None) => known.name = find(*disk),
                _ => {}
            }
        }
        let line = |disk: DiskId, known: &'a Known| {
            Some(DiskView { disk, name: known.name.as_deref()?, used: known.used })
        };
        let disks = &self.disks;
        let listed = host.names.iter().filter_map(|(disk, _)| line(*disk, disks.get(disk)?));
        let others = disks.iter().filter(|(disk, _)| !host.names.iter().any(|(listed, _)| listed == *disk));
        listed.chain(others.filter_map(|(disk, known)| line(*disk, known))).collect()
    }
}

impl DiskAccount {
    /// Appends all that the next call of [`Self::advance`] needs.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.disks.len() as u64);
        for (disk, known) in &self.disks {
            put(out, u64::from(disk.major) << 32 | u64::from(disk.minor));
            put(out, u64::from(known.name.is_some()));
            put_bytes(out, known.name.as_deref().unwrap_or_default().as_bytes());
            for (shown, raw) in known.directions() {
                put(out, shown.bytes.0);
                put(out, shown.operations);
                raw.bytes.encode(out);
                raw.operations.encode(out);
            }
        }
    }

    /// From what [`Self::encode`] gave; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut saved = Saved(bytes);
        let mut disks = BTreeMap::new();
        let count = saved.count(168)?;
        for _ in 0..count {
            let number = saved.number()?;
            let disk = DiskId { major: (number >> 32) as u32, minor: number as u32 };
            let (named, name) = (saved.flag()?, saved.bytes()?);
            let name = named.then(|| std::str::from_utf8(name)).transpose().ok()?.map(str::to_owned);
            let mut direction = || {
                let shown = Transfer { bytes: Bytes(saved.number()?), operations: saved.number()? };
                let bytes = Counter::decode(&mut saved)?;
                Some((shown, Followed { bytes, operations: Counter::decode(&mut saved)? }))
            };
            let ((read_shown, read), (write_shown, write)) = (direction()?, direction()?);
            let (discard_shown, discard) = direction()?;
            let used = DiskUse { read: read_shown, write: write_shown, discard: discard_shown };
            disks.insert(disk, Known { name, used, read, write, discard });
        }
        // the same disk twice, or more than are ever remembered
        if disks.len() != count || count > MOST {
            return None;
        }
        saved.end(Self { disks })
    }
}

impl Known {
    fn directions(&self) -> [(&Transfer, &Followed); 3] {
        [(&self.used.read, &self.read), (&self.used.write, &self.write), (&self.used.discard, &self.discard)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const VDA: DiskId = DiskId { major: 254, minor: 0 };
    const VDB: DiskId = DiskId { major: 254, minor: 16 };
    const LOOP: DiskId = DiskId { major: 7, minor: 3 };

    fn host(disks: &[(DiskId, &str)]) -> HostDisks {
        HostDisks { columns: 17, names: disks.iter().map(|(id, name)| (*id, (*name).to_owned())).collect() }
    }

    fn written(bytes: u64, operations: u64) -> DiskUse {
        DiskUse { write: Transfer { bytes: Bytes(bytes), operations }, ..DiskUse::NONE }
    }

    fn names(account: &mut DiskAccount, host: &HostDisks) -> Vec<String> {
        account.view(host, |_| None).iter().map(|line| line.name.to_owned()).collect()
    }

    #[test]
    fn d1_only_disks_that_the_container_used() {
        let mut account = DiskAccount::default();
        let host = host(&[(LOOP, "loop3"), (VDA, "vda"), (VDB, "vdb")]);
        account.advance(LOOP, DiskUse::NONE);
        account.advance(VDA, written(512, 1));
        assert_eq!(names(&mut account, &host), ["vda"]);
        account
            .advance(VDB, DiskUse { read: Transfer { bytes: Bytes::ZERO, operations: 1 }, ..DiskUse::NONE });
        assert_eq!(names(&mut account, &host), ["vda", "vdb"]);
    }

    #[test]
    fn d4_names_and_order_are_the_hosts() {
        let mut account = DiskAccount::default();
        for disk in [LOOP, VDA, VDB] {
            account.advance(disk, written(1, 1));
        }
        let order = host(&[(VDB, "vdb"), (LOOP, "loop3"), (VDA, "vda")]);
        assert_eq!(names(&mut account, &order), ["vdb", "loop3", "vda"]);
        // gone from the host's file: last, under the name it had
        assert_eq!(names(&mut account, &host(&[(VDA, "sda")])), ["sda", "loop3", "vdb"]);
        // never listed: as sysfs says, or not at all
        let mut account = DiskAccount::default();
        account.advance(VDA, written(1, 1));
        assert!(account.view(&host(&[]), |_| None).is_empty());
        let found = account.view(&host(&[]), |disk| (disk == VDA).then(|| "vda".to_owned()));
        assert_eq!(found.first().map(|line| line.name), Some("vda"));
    }

    #[test]
    fn d5_numbers_never_go_down_and_disks_stay() {
        let mut account = DiskAccount::default();
        let host = host(&[(VDA, "vda")]);
        account.advance(VDA, written(4096, 2));
        account.advance(VDA, written(1024, 3));
        assert_eq!(account.view(&host, |_| None).first().map(|line| line.used), Some(written(4096, 3)));
        account.advance(VDA, DiskUse::NONE);
        assert_eq!(account.view(&host, |_| None).first().map(|line| line.used), Some(written(4096, 3)));
        // lower twice: the disk or the controller was taken away and is there again
        account.advance(VDA, written(1536, 3));
        assert_eq!(account.view(&host, |_| None).first().map(|line| line.used), Some(written(4608, 3)));
    }

    #[test]
    fn d5_what_is_remembered_is_bounded() {
        let mut account = DiskAccount::default();
        for minor in 0..5000 {
            account.advance(DiskId { major: 7, minor }, written(1, 1));
        }
        account.advance(DiskId { major: 7, minor: 0 }, written(9, 9));
        let lines = account.view(&host(&[]), |disk| Some(format!("loop{}", disk.minor)));
        assert_eq!((lines.len(), lines[0].used), (MOST, written(9, 9)));
    }
}
