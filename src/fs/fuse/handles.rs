//! Handles as the kernel is told them: those of this process's memory, and those of the memories before.
//!
//! Open files are kept over the end of a worker in shared memory, and their handles with them. Where a build that lays that memory
//! out otherwise takes the connection over, the kernel goes on to use handles of which nothing is known any more. They must
//! not be taken for new ones, which may have the same numbers and be somebody else's files: so that each handle carries
//! which memory it is of, its epoch. And they must not fail: the program has its file open, and reads it. The kernel never reads a
//! handle that it has released, so that whatever is read is open, and the inode says which file it is.

use std::collections::HashMap;

use fuser::FileHandle;
use parking_lot::RwLock;

use crate::fs::Refusal;
use crate::fs::snapshots::Handle;

/// Where the epoch stands in a handle: above the number of the slot, which is below a million, and below the generation.
const SHIFT: u32 = 20;
/// After so many epochs they begin anew.
const EPOCHS: u64 = 1 << 12;
const MASK: u64 = (EPOCHS - 1) << SHIFT;
/// A handle that no file has.
const NONE: Handle = Handle(u64::MAX);

/// The handles of one process.
#[derive(Debug, Default)]
pub(super) struct Handles {
    /// In its place.
    epoch: u64,
    /// What stands for handles that were told before this process was there, and of which nothing was kept.
    again: RwLock<HashMap<u64, Handle>>,
}

impl Handles {
    /// Those of the memory that came after `epoch` others.
    pub(super) fn new(epoch: u64) -> Self {
        Self { epoch: (epoch % EPOCHS) << SHIFT, again: RwLock::default() }
    }

    /// A handle as the kernel is told it.
    pub(super) const fn tell(&self, handle: Handle) -> FileHandle {
        FileHandle(handle.0 & !MASK | self.epoch)
    }

    const fn own(&self, fh: FileHandle) -> Handle {
        if fh.0 & MASK == self.epoch { Handle(fh.0 & !MASK) } else { NONE }
    }

    /// The open file behind what the kernel says; one that does not exist where it is not known.
    pub(super) fn known(&self, fh: FileHandle) -> Handle {
        self.again.read().get(&fh.0).copied().unwrap_or_else(|| self.own(fh))
    }

    /// Lets a file that is opened now stand for a handle behind which there was nothing (`tried`); `close` is for one too many,
    /// where two readers came at once.
    pub(super) fn again(
        &self,
        fh: FileHandle,
        tried: Handle,
        open: impl FnOnce() -> Result<Handle, Refusal>,
        close: impl FnOnce(Handle),
    ) -> Result<Handle, Refusal> {
        let stands =
            |again: &HashMap<u64, Handle>| again.get(&fh.0).copied().filter(|handle| *handle != tried);
        if let Some(handle) = stands(&self.again.read()) {
            return Ok(handle);
        }
        let new = open()?;
        let mut again = self.again.write();
        if let Some(first) = stands(&again) {
            drop(again);
            close(new);
            return Ok(first);
        }
        again.insert(fh.0, new);
        Ok(new)
    }

    /// The kernel has released it: the file that is to be closed.
    pub(super) fn ended(&self, fh: FileHandle) -> Handle {
        if self.again.read().is_empty() {
            return self.own(fh);
        }
        self.again.write().remove(&fh.0).unwrap_or_else(|| self.own(fh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    /// Slot 5 of generation 3.
    const OPEN: Handle = Handle(3 << 32 | 5);

    #[test]
    fn a_handle_comes_back() {
        for epoch in [0, 1, 4095, 4096, u64::MAX] {
            let handles = Handles::new(epoch);
            let fh = handles.tell(OPEN);
            assert_eq!(handles.known(fh), OPEN, "{epoch}");
            assert_eq!(handles.ended(fh), OPEN, "{epoch}");
        }
        assert_eq!(Handles::default().tell(OPEN).0, OPEN.0, "the first memory's are as they are");
    }

    #[test]
    fn r9_one_of_another_memory_is_not_taken_for_ours() {
        let (old, new) = (Handles::new(1), Handles::new(2));
        assert_eq!(new.known(old.tell(OPEN)), NONE);
        assert_eq!(new.ended(old.tell(OPEN)), NONE);
        assert_eq!(Handles::default().known(old.tell(OPEN)), NONE);
    }

    #[test]
    fn r9_a_file_that_was_opened_again_stands_for_it_until_released() {
        let (old, new) = (Handles::new(1), Handles::new(2));
        let fh = old.tell(OPEN);
        let other = Handle(1 << 32 | 9);
        let never = |_| panic!("nothing to close");
        assert_eq!(new.again(fh, NONE, || Ok(other), never).ok(), Some(other));
        assert_eq!(new.again(fh, NONE, || panic!("it is open"), never).ok(), Some(other));
        assert_eq!(new.known(fh), other);
        let third = Handle(1 << 32 | 10);
        assert_eq!(
            new.again(fh, other, || Ok(third), never).ok(),
            Some(third),
            "there was nothing behind that one either"
        );
        assert_eq!(new.ended(fh), third);
        assert_eq!(new.known(fh), NONE);
        assert!(new.again(fh, NONE, || Err(Refusal(Errno::ENOENT)), never).is_err());
        assert_eq!(new.known(fh), NONE);
    }

    #[test]
    fn of_two_that_were_opened_at_once_one_is_closed() {
        let handles = Handles::new(1);
        let fh = FileHandle(7);
        let (first, second) = (Handle(1), Handle(2));
        let mut closed = None;
        let open = || {
            let meanwhile = handles.again(fh, NONE, || Ok(first), |_| panic!("nothing to close"));
            assert_eq!(meanwhile.ok(), Some(first));
            Ok(second)
        };
        assert_eq!(handles.again(fh, NONE, open, |handle| closed = Some(handle)).ok(), Some(first));
        assert_eq!(closed, Some(second));
    }
}
