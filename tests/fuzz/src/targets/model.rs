//! Plain data.

use ownproc::model::cpuset::MAX_CPUS;
use ownproc::model::{ContainerName, CpuSet};

use crate::input::text;

/// A list of CPUs: what was understood is printed so that it is understood again, and its members agree.
pub fn cpu_set(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(set) = CpuSet::parse(text) else { return };
    let printed = set.to_string();
    assert_eq!(CpuSet::parse(&printed).as_ref(), Ok(&set), "{printed}");
    let members: Vec<usize> = set.iter().collect();
    assert!(members.is_sorted() && members.len() == set.len() && set.is_empty() == members.is_empty());
    assert_eq!(members.last().copied(), set.last());
    assert!(members.iter().all(|&cpu| cpu < MAX_CPUS && set.contains(cpu)));
    for (rank, &cpu) in members.iter().enumerate().step_by(members.len() / 16 + 1) {
        assert_eq!((set.rank(cpu), set.nth(rank)), (Some(rank), Some(cpu)));
        assert_eq!(set.lowest(rank).len(), rank);
    }
    assert_eq!(set.nth(members.len()), None);
    let other = CpuSet::first(members.len());
    assert_eq!(set.and(&other).or(&set.without(&other)), set);
}

/// A container's name is safe as a file name and comes back from JSON; any other text is refused there, too.
pub fn container_name(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let json = serde_json::to_string(text).unwrap();
    match ContainerName::new(text) {
        Ok(name) => {
            assert!(!text.is_empty() && text.len() <= 128 && !text.starts_with(['.', '-']));
            assert!(text.bytes().all(|b| b.is_ascii_graphic() && b != b'/'));
            assert!(text.parse::<u64>().is_err(), "{text} could be a pid");
            assert_eq!(serde_json::to_string(&name).unwrap(), json);
            assert_eq!(serde_json::from_str::<ContainerName>(&json).unwrap(), name);
        }
        Err(error) => {
            assert!(error.to_string().chars().count() < 2000);
            assert!(serde_json::from_str::<ContainerName>(&json).is_err());
        }
    }
}
