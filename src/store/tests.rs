//! Death at every step, and what the next process finds.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::layout::Class;
use super::*;

/// A store and the memfd that it is in.
fn new() -> (OwnedFd, Arc<Store>) {
    let fd = private_memory().unwrap();
    let store = Store::open(fd.as_fd()).unwrap();
    (fd, store)
}

fn reopen(fd: &OwnedFd) -> Arc<Store> {
    Store::open(fd.as_fd()).unwrap()
}

fn file(unique: u64) -> NewFile {
    NewFile { ino: 0x1234, unique, tid: 77, owner: None, writer: None }
}

/// Bytes of memory that the memfd takes.
fn resident(fd: &OwnedFd) -> u64 {
    u64::try_from(rustix::fs::fstat(fd).unwrap().st_blocks).unwrap() * 512
}

fn open(store: &Store, index: u32, unique: u64) -> u32 {
    store.make_slots(index + 1);
    store.open_slot(index, &file(unique))
}

#[test]
fn another_layout_is_refused() {
    let (fd, _) = new();
    let at = (BASE + Header::Version.offset()) as u64;
    rustix::io::pwrite(&fd, &(VERSION + 1).to_ne_bytes(), at).unwrap();
    assert!(
        matches!(Store::open(fd.as_fd()), Err(StoreError::Incompatible { found }) if found == VERSION + 1)
    );
    rustix::io::pwrite(&fd, &VERSION.to_ne_bytes(), at).unwrap();
    reopen(&fd);
    rustix::fs::ftruncate(&fd, 1 << 20).unwrap();
    assert!(
        matches!(Store::open(fd.as_fd()), Err(StoreError::Foreign)),
        "cut short: a touch would be SIGBUS"
    );
    let empty = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    assert!(matches!(Store::open(empty.as_fd()), Err(StoreError::Foreign)));
}

#[test]
fn what_is_open_comes_back() {
    let (fd, store) = new();
    let other = NewFile { ino: 9, unique: 2, tid: 5, owner: Some(3), writer: Some(true) };
    let generation = open(&store, 0, 1);
    store.make_slots(2);
    store.open_slot(1, &other);
    open(&store, 2, 3);
    store.close_slot(2);
    let text = store.text(b"a text").unwrap();
    store.set_text(0, &text);
    store.known(0, generation);
    store.set_written(1, 20);
    let trigger = store.text(b"some").unwrap();
    store.set_trigger(1, &trigger);
    store.set_poll(1, 0);
    let next = reopen(&fd);
    let kept = next.take_files();
    assert_eq!(kept.len(), 2);
    assert_eq!(
        (kept[0].index, kept[0].generation, kept[0].file, kept[0].known),
        (0, generation, file(1), true)
    );
    assert_eq!(next.bytes(kept[0].text.as_ref().unwrap()), b"a text");
    assert_eq!((kept[0].written, kept[0].poll, kept[0].trigger.is_none()), (0, None, true));
    assert_eq!((kept[1].file, kept[1].known, kept[1].written, kept[1].poll), (other, false, 20, Some(0)));
    assert_eq!(next.bytes(kept[1].trigger.as_ref().unwrap()), b"some");
    assert!(kept[1].text.is_none(), "not rendered");
    assert!(next.take_files().is_empty(), "once");
}

/// An empty text is one; the length and the generation have their own bits.
#[test]
fn words_say_what_they_mean() {
    let (fd, store) = new();
    open(&store, 0, 1);
    let empty = store.text(b"").unwrap();
    store.set_text(0, &empty);
    let next = reopen(&fd);
    let kept = next.take_files();
    assert_eq!(next.bytes(kept[0].text.as_ref().unwrap()), b"");
    // generations go on where the one before stopped, also when no slot is in use
    next.close_slot(0);
    let last = reopen(&fd);
    assert!(last.take_files().is_empty());
    assert_eq!(open(&last, 0, 2), 2);
    for (word, what) in [
        (1u64 << 63 | 30 << 56, "no such class"),
        (1u64 << 63 | 31 << 56 | 5, "bytes without a block"),
        (1u64 << 63 | 3 << 56 | 7 << 32 | 5, "a block that was never used"),
        (1u64 << 63 | 3 << 56 | 0xff_ffff << 32 | 5, "a block that there is not"),
        (1u64 << 63 | 3 << 56 | 5000, "more than a block"),
        (3 << 56, "not there"),
    ] {
        assert!(Text::claim(word, &last.memory).is_none(), "{what}");
    }
}

/// The texts of large hosts: every class, and one byte more than its block.
#[test]
fn texts_of_all_sizes() {
    let (fd, store) = new();
    let lengths: Vec<usize> = Class::all()
        .filter(|class| class.size() <= 4 << 20)
        .flat_map(|class| [class.size(), class.size() + 1])
        .collect();
    let text = |len: usize| -> Vec<u8> { (0..len).map(|at| (at * 31 + len) as u8).collect() };
    for (index, len) in (0..).zip(&lengths) {
        open(&store, index, u64::from(index));
        let text = store.text(&text(*len)).unwrap();
        store.set_text(index, &text);
    }
    let next = reopen(&fd);
    for (kept, len) in next.take_files().iter().zip(&lengths) {
        assert!(next.bytes(kept.text.as_ref().unwrap()) == text(*len), "{len}");
    }
    assert!(store.text(&vec![1; (64 << 20) + 1]).is_none(), "beyond the largest");
}

/// Blocks beyond the reserve give their pages back, and so do those that nobody names after a death.
#[test]
fn memory_is_given_back() {
    let (fd, store) = new();
    let before = resident(&fd);
    let texts: Vec<Text> = (0..64).map(|_| store.text(&vec![1; 1 << 20]).unwrap()).collect();
    assert!(resident(&fd) >= before + (64 << 20));
    texts.into_iter().for_each(|text| store.give_back(text));
    assert!(resident(&fd) < before + (1 << 20), "large ones are not kept");
    for len in [4096, 5000, 100_000, 300_000] {
        let texts: Vec<Text> = (0..600).map(|_| store.text(&vec![1; len]).unwrap()).collect();
        texts.into_iter().for_each(|text| store.give_back(text));
        assert!(resident(&fd) < before + (10 << 20), "{len}: a small reserve");
    }
    let lost: Vec<Text> = (0..64).map(|n| store.text(&vec![1; 4096 << (n % 8)]).unwrap()).collect();
    let unnamed = resident(&fd);
    let next = reopen(&fd);
    drop(lost);
    assert!(resident(&fd) <= unnamed.min(before + (10 << 20)));
    // and are used again, each once
    let again: Vec<Text> = (0..600u32).map(|n| next.text(&n.to_ne_bytes().repeat(1024)).unwrap()).collect();
    for (n, text) in (0..600u32).zip(&again) {
        assert_eq!(next.bytes(text), n.to_ne_bytes().repeat(1024));
    }
}

#[test]
fn a_lost_block_between_others_is_used_again() {
    let (fd, store) = new();
    for index in 0..3 {
        open(&store, index, u64::from(index) + 1);
    }
    let texts: Vec<Text> = (0..3).map(|_| store.text(b"a text").unwrap()).collect();
    store.set_text(0, &texts[0]);
    store.set_text(2, &texts[2]);
    // of texts of one length the word tells the block
    let lost = texts[1].word();
    let next = reopen(&fd);
    let kept = next.take_files();
    assert_eq!(kept.iter().filter(|file| file.text.is_some()).count(), 2);
    let again: Vec<u64> = (0..8).map(|_| next.text(b"a text").unwrap().word()).collect();
    assert!(again.contains(&lost), "{lost:#x} is not among {again:#x?}");
}

#[test]
fn a_class_that_is_used_up_borrows() {
    let (_, store) = new();
    let largest: Vec<Text> = (0..20).map_while(|_| store.small_text(&vec![0; (32 << 20) + 1])).collect();
    assert_eq!(largest.len(), 16);
    let halves: Vec<Text> = (0..40).map_while(|_| store.small_text(&vec![0; (16 << 20) + 1])).collect();
    assert_eq!(halves.len(), 32, "and none is left above");
    store.give_back(largest.into_iter().next().unwrap());
    assert!(store.small_text(&vec![0; (16 << 20) + 1]).is_some());
}

#[test]
fn records_come_back_by_their_keys() {
    let (fd, store) = new();
    let (first, second) = (store.new_record(b"first").unwrap(), store.new_record(b"second").unwrap());
    first.save(Kind::Cpu, b"1");
    first.save(Kind::Cpu, b"22");
    first.save(Kind::Load, b"");
    second.save(Kind::Disks, &[7; 5000]);
    let gone = store.new_record(b"gone").unwrap();
    gone.save(Kind::Cpu, b"x");
    gone.discard();
    drop(gone);
    drop((first, second));
    store.set_jiffies_rate(250);
    assert_eq!(store.started(5), 5);
    let next = reopen(&fd);
    assert_eq!((next.jiffies_rate(), next.started(9)), (Some(250), 5));
    let mut kept = next.take_records();
    kept.sort_by(|(one, _), (other, _)| one.cmp(other));
    let keys: Vec<&[u8]> = kept.iter().map(|(key, _)| &**key).collect();
    assert_eq!(keys, [b"first".as_slice(), b"second"]);
    let load = |at: usize, kind| kept[at].1.load(kind, <[u8]>::to_vec);
    assert_eq!(load(0, Kind::Cpu), Some(b"22".to_vec()));
    assert_eq!(load(0, Kind::Load), Some(vec![]));
    assert_eq!(load(0, Kind::Memory), None);
    assert_eq!(load(1, Kind::Disks), Some(vec![7; 5000]));
    // the place of the one that is gone is used again, with nothing of it left
    let fresh = next.new_record(b"fresh").unwrap();
    assert_eq!((fresh.index(), fresh.load(Kind::Cpu, <[u8]>::len)), (2, None));
}

/// What one process does before it dies, step by step.
fn work(store: &Arc<Store>) {
    let texts = |len: usize, what: u8| store.text(&vec![what; len]).unwrap();
    for (index, what) in [(0, b'a'), (1, b'b')] {
        let generation = open(store, index, u64::from(index) + 1);
        store.known(index, generation);
        let mut last = texts(3000, what);
        store.set_text(index, &last);
        for len in [5000, 700_000, 4096, 3000] {
            let text = texts(len, what.to_ascii_uppercase());
            store.set_text(index, &text);
            store.give_back(std::mem::replace(&mut last, text));
        }
        store.set_written(index, 20);
        store.set_trigger(index, &texts(20, b't'));
    }
    store.close_slot(0);
    open(store, 0, 3);
    let record = store.new_record(b"key").unwrap();
    for (kind, number) in [(Kind::Cpu, 1), (Kind::Cpu, 2), (Kind::Load, 9), (Kind::Cpu, 3)] {
        record.save(kind, &vec![number; 600 * usize::from(number)]);
    }
    record.discard();
    drop(record);
    let record = store.new_record(b"other").unwrap();
    record.save(Kind::Memory, &[5; 100]);
}

/// Every text is of one kind of byte and of a length that was written.
fn check_whole(text: &[u8], lengths: &[usize]) {
    assert!(lengths.contains(&text.len()), "{}", text.len());
    assert!(text.iter().all(|byte| *byte == text[0]), "two texts in one");
}

#[test]
fn death_at_every_step() {
    let mut steps = 0;
    loop {
        let (fd, store) = new();
        store.memory.life.ends_after(steps);
        work(&store);
        let survived = !store.memory.life.is_over();
        let next = reopen(&fd);
        for kept in next.take_files() {
            let text = kept.text.as_ref().map(|text| next.bytes(text));
            text.inspect(|text| {
                check_whole(text, &[3000, 5000, 4096, 700_000]);
                assert!(
                    text[0].eq_ignore_ascii_case(&(b'a' + kept.index as u8)),
                    "step {steps}: of another file"
                );
            });
            if let Some(trigger) = &kept.trigger {
                assert_eq!((next.bytes(trigger), kept.written), ([b't'; 20].as_slice(), 20));
            }
            let unique = if kept.generation == 2 { 3 } else { u64::from(kept.index) + 1 };
            assert_eq!(kept.file, file(unique), "step {steps}");
        }
        let mut seen = 0;
        for (key, record) in next.take_records() {
            assert!([b"key".as_slice(), b"other"].contains(&&*key), "step {steps}");
            seen += 1;
            for (kind, numbers) in
                [(Kind::Cpu, [1, 2, 3].as_slice()), (Kind::Load, &[9]), (Kind::Memory, &[5])]
            {
                record.load(kind, |bytes| {
                    assert!(numbers.contains(&bytes[0]), "step {steps}");
                    let len = if kind == Kind::Memory { 100 } else { 600 * usize::from(bytes[0]) };
                    check_whole(bytes, &[len]);
                });
            }
        }
        assert!(seen <= 1, "the first was discarded before the second was made");
        // the next process does the same work over what is there, with no block used twice
        work(&next);
        let last = reopen(&fd);
        assert!(last.take_files().len() <= 2);
        if survived {
            assert!(steps > 60, "{steps}");
            return;
        }
        steps += 1;
    }
}
