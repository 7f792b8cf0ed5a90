use std::os::fd::AsFd;

use super::*;
use crate::store::private_memory;

impl Laned for &str {
    fn lane(&self) -> u16 {
        self.len() as u16
    }
}

macro_rules! laned {
    ($($number:ty)*) => {
        $(impl Laned for $number {
            fn lane(&self) -> u16 {
                *self as u16
            }
        })*
    };
}

laned!(usize u8 u64);

#[test]
fn the_lane_of_a_file_is_told_while_somebody_has_it() {
    let files: Snapshots<u8> = files();
    let handle = files.open(&file(1), 9, 0).expect("slot");
    assert_eq!(files.lane(handle), 9);
    let mut open = files.get(handle).expect("open");
    assert_eq!(files.lane(handle), 9);
    files.answered(handle);
    *open.opened().expect("open") = 11;
    open.keep_owner(5, None);
    drop(open);
    assert_eq!(files.lane(handle), 11);
    assert_eq!(files.lane(Handle(u64::MAX)), 0);
}

fn files<T: Laned>() -> Snapshots<T> {
    Snapshots::take_up(Store::private().unwrap(), |_| None)
}

fn file(unique: u64) -> NewFile {
    NewFile { ino: 7, unique, tid: 5, owner: None, writer: None }
}

#[test]
fn a_released_handle_is_dead_and_its_slot_lives_on() {
    let files: Snapshots<&str> = files();
    let first = files.open(&file(1), "a", 0).expect("slot");
    assert!(files.get(first).expect("open").replace(b"text of a"));
    files.release(first);
    files.release(first);
    assert!(files.get(first).is_none());
    let second = files.open(&file(2), "b", 0).expect("slot");
    assert_ne!(first, second);
    assert_eq!(first.parts().1, second.parts().1, "the slot is used again");
    let open = files.get(second).expect("open");
    assert_eq!(open.text(), None, "nothing of the old file is left");
    drop(open);
    files.release(first);
    assert_eq!(files.open_files(), 1);
    assert!(files.get(Handle(u64::MAX)).is_none());
    assert!(files.get(Handle(0)).is_none());
}

#[test]
fn many_files_from_many_threads() {
    let files: Snapshots<usize> = files();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let files = &files;
            scope.spawn(move || {
                for round in 0..500 {
                    let handles: Vec<_> = (0..3)
                        .map(|n| files.open(&file(0), thread * 10 + n, thread).expect("slot"))
                        .collect();
                    for (n, handle) in handles.iter().enumerate() {
                        let mut open = files.get(*handle).expect("open");
                        assert_eq!(open.opened(), Some(&mut (thread * 10 + n)), "{round}");
                        let text = vec![(thread * 10 + n) as u8; 100 << n];
                        assert!(open.replace(&text));
                        assert_eq!(open.text(), Some(&*text));
                    }
                    for (n, handle) in handles.iter().enumerate() {
                        let text = vec![(thread * 10 + n) as u8; 100 << n];
                        assert_eq!(files.get(*handle).expect("open").text(), Some(&*text));
                        files.release(*handle);
                    }
                }
            });
        }
    });
    assert_eq!(files.open_files(), 0);
    assert!(files.made.load(Ordering::Relaxed) <= 12);
}

/// What one file goes through, with a process that dies after so many writes to the store. Large texts are given back to the
/// kernel at once, so that a block that is given up too early is seen to be empty.
fn life(store: &Arc<Store>, handles: &mut Vec<Handle>) {
    let files: Snapshots<u8> = Snapshots::take_up(Arc::clone(store), |_| Some(0));
    for unique in 1..4 {
        let handle = files.open(&file(unique), 0, 0).unwrap();
        handles.push(handle);
        for text in [vec![b'a'; 3000], vec![b'b'; 3500], vec![b'c'; 900_000], vec![b'd'; 100]] {
            let mut open = files.get(handle).unwrap();
            assert!(open.replace(&text) || store.is_dead());
        }
        let mut open = files.get(handle).unwrap();
        assert!(open.keep_written(&[b't'; 20], 20) || store.is_dead());
        drop(open);
        if unique == 2 {
            files.release(handle);
        }
    }
}

#[test]
fn r6_death_between_any_two_writes() {
    for writes in 0.. {
        let fd = private_memory().unwrap();
        let store = Store::open(fd.as_fd()).unwrap();
        store.dies_after(writes);
        let mut handles = Vec::new();
        // a process that is dead goes on here without effect; what it says then does not count
        let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life(&store, &mut handles)));
        assert!(lived.is_ok() || store.is_dead());
        let next = Store::open(fd.as_fd()).unwrap();
        let files: Snapshots<u64> = Snapshots::take_up(next, |kept| {
            assert!(kept.trigger.is_none() || kept.written == 20, "a position of nobody: {writes}");
            Some(kept.file.unique)
        });
        let mut open_now = Vec::new();
        files.for_each(|handle| open_now.push(handle));
        for handle in open_now {
            let mut open = files.get(handle).unwrap();
            assert!((1..4).contains(open.opened().unwrap()), "of no request: {writes}");
            if let Some(text) = open.text() {
                let whole = [(3000, b'a'), (3500, b'b'), (900_000, b'c'), (100, b'd')];
                let (len, byte) =
                    *whole.iter().find(|(len, _)| *len == text.len()).expect("a length that was written");
                assert!(text.iter().all(|it| *it == byte), "{len} bytes of two texts: {writes}");
            }
            if let Some(written) = open.written() {
                assert_eq!(written, [b't'; 20], "{writes}");
            }
        }
        if !store.is_dead() {
            assert!(writes > 60);
            return;
        }
    }
}
