//! What a daemon before this one left on disk.

use ownproc::containers::kept::RecordKey;
use ownproc::containers::state::{Record, State};
use ownproc::model::name::MAX_SLOT;

use crate::input::{head, memory_dir};

/// One record: what was read is written so that it is read as the same.
pub fn state_records(data: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<Record>(data) {
        let printed = serde_json::to_vec(&record).unwrap();
        assert_eq!(serde_json::from_slice::<Record>(&printed).unwrap(), record);
    }
}

/// The directory of records with one file of any content beside the number of the next slot.
pub fn state_directory(data: &[u8]) {
    let (option, rest) = head(data);
    let root = memory_dir();
    let state = State::open(&root.path().join("containers")).unwrap();
    let name = if option & 1 == 0 { "web.json" } else { ".new" };
    std::fs::write(state.dir().join(name), rest).unwrap();
    std::fs::write(state.dir().join(".next_slot"), rest).unwrap();
    let records = state.load().unwrap();
    let left = std::fs::read_dir(state.dir()).unwrap().count();
    assert_eq!(left, records.len() + 1, "what is not understood is removed");
    for record in &records {
        assert!(record.name.as_str() == "web" && (1..MAX_SLOT).contains(&record.slot), "{record:?}");
        state.save(record).unwrap();
        assert_eq!(state.load().unwrap(), records);
    }
    let next = state.next_slot().unwrap();
    assert!((1..=MAX_SLOT).contains(&next), "{next}");
    state.save_next_slot(next).unwrap();
    assert_eq!(state.next_slot().unwrap(), next);
}

/// The key of a container's record: any bytes are taken or refused, and what is taken is written as the same bytes.
pub fn record_keys(data: &[u8]) {
    if let Some(key) = RecordKey::decode(data) {
        assert_eq!(key.encode(), data);
    }
}
