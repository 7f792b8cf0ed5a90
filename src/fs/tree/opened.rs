//! What is known of one open file beside its bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;

use crate::containers::lane;
use crate::containers::{Crowd, Limits, Remembered, View};
use crate::fs::Refusal;
use crate::fs::inode::Place;
use crate::fs::snapshots::Laned;
use crate::fs::triggers::Trigger;
use crate::store::Record;

/// What an open file was opened as.
#[derive(Debug)]
pub struct Opened {
    pub(super) place: Place,
    /// `None` for a file that was opened in the process before this one, until it is rendered.
    pub(super) view: Option<Remembered>,
    /// Nothing was read yet: the view is as fresh as the open.
    pub(super) fresh: bool,
    /// The thread that opened it.
    pub(super) tid: u32,
    /// Opened for writing, which means for a trigger: whether by a thread with CAP_SYS_RESOURCE.
    pub(super) writer: Option<bool>,
    /// How far writes have moved the file's position, which they do not on the kernel's own files: reads go on as if
    /// they had not, until one at 0 shows that the program went there.
    pub(super) written: u64,
    /// The trigger that was written to it.
    pub(super) trigger: Option<Trigger>,
    /// A trigger was written to it in the process before this one, and could not be set again.
    pub(super) lost_trigger: bool,
    /// Counts the file for its container while it is open.
    pub(super) count: Option<OpenCount>,
}

/// Files that one container may have open at once. Each costs this process memory that the container is not
/// charged for.
pub(super) const MOST_OPEN: usize = 4096;
/// Bytes that the snapshots of one container may take at once, in whole pages: so many, and as many again as there are
/// mebibytes as the host has CPUs, since texts grow with those.
pub(super) const MOST_SNAPSHOTS: usize = 64 << 20;
/// For each CPU of the host.
pub(super) const MORE_SNAPSHOTS: usize = 1 << 20;

/// One open file of a container, and the memory that its snapshot takes.
#[derive(Debug)]
pub(super) struct OpenCount {
    limits: Arc<Limits>,
    /// Keeps the record in the store for as long as a slot there names it.
    record: Option<Arc<Record>>,
    bytes: usize,
}

fn pages(len: usize) -> usize {
    len.div_ceil(4096).saturating_mul(4096)
}

impl OpenCount {
    /// Counts one more; EMFILE at the limit.
    pub(super) fn take(view: &View) -> Result<Option<Self>, Refusal> {
        let View::Container(contained) = view else { return Ok(None) };
        let more = |open: usize| (open < MOST_OPEN).then(|| open + 1);
        let counted = contained.limits.open_files.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.map_err(|_| Refusal(Errno::EMFILE))?;
        if let Some(crowd) = &contained.limits.crowd
            && crowd.open_files.fetch_add(1, Ordering::Relaxed) >= Crowd::MOST_OPEN
        {
            crowd.open_files.fetch_sub(1, Ordering::Relaxed);
            contained.limits.open_files.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal(Errno::EMFILE));
        }
        let (limits, record) = (Arc::clone(&contained.limits), contained.subject.record().cloned());
        Ok(Some(Self { limits, record, bytes: 0 }))
    }

    /// Counts one more, for a file that is open already.
    pub(super) fn beyond(view: &View) -> Option<Self> {
        let View::Container(contained) = view else { return None };
        Some(Self::of(Arc::clone(&contained.limits), contained.subject.record().cloned(), 0))
    }

    /// One with a snapshot of `len` bytes.
    pub(super) fn of(limits: Arc<Limits>, record: Option<Arc<Record>>, len: usize) -> Self {
        let bytes = pages(len);
        limits.open_files.fetch_add(1, Ordering::Relaxed);
        limits.snapshots.fetch_add(bytes, Ordering::Relaxed);
        if let Some(crowd) = &limits.crowd {
            crowd.open_files.fetch_add(1, Ordering::Relaxed);
            crowd.snapshots.fetch_add(bytes, Ordering::Relaxed);
        }
        Self { limits, record, bytes }
    }

    /// The record that a slot in the store names.
    pub(super) fn owner(&self) -> Option<u32> {
        self.record.as_ref().map(|record| record.index())
    }

    /// Takes the room for a snapshot of `len` bytes in place of the one there is; ENOMEM beyond `most` in all.
    pub(super) fn resize(&mut self, len: usize, most: usize) -> Result<(), Refusal> {
        let bytes = pages(len);
        let before = self.limits.snapshots.fetch_add(bytes, Ordering::Relaxed);
        if bytes > self.bytes && before.saturating_sub(self.bytes).saturating_add(bytes) > most {
            self.limits.snapshots.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Refusal(Errno::ENOMEM));
        }
        if let Some(crowd) = &self.limits.crowd {
            let before = crowd.snapshots.fetch_add(bytes, Ordering::Relaxed);
            if bytes > self.bytes
                && before.saturating_sub(self.bytes).saturating_add(bytes) > Crowd::MOST_SNAPSHOTS
            {
                crowd.snapshots.fetch_sub(bytes, Ordering::Relaxed);
                self.limits.snapshots.fetch_sub(bytes, Ordering::Relaxed);
                return Err(Refusal(Errno::ENOMEM));
            }
            crowd.snapshots.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        self.limits.snapshots.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.limits.snapshots.fetch_sub(self.bytes, Ordering::Relaxed);
        self.limits.open_files.fetch_sub(1, Ordering::Relaxed);
        if let Some(crowd) = &self.limits.crowd {
            crowd.snapshots.fetch_sub(self.bytes, Ordering::Relaxed);
            crowd.open_files.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Laned for Opened {
    fn lane(&self) -> u16 {
        self.count.as_ref().map_or(lane::HOST, |count| count.limits.lane.get())
    }
}

impl Opened {
    /// A file of which nothing more is known.
    pub(super) const fn new(place: Place, tid: u32, writer: Option<bool>) -> Self {
        Self {
            place,
            view: None,
            fresh: false,
            tid,
            writer,
            written: 0,
            trigger: None,
            lost_trigger: false,
            count: None,
        }
    }

    /// Where a read at `offset` begins.
    pub(super) fn position(&mut self, offset: u64) -> u64 {
        match offset.checked_sub(self.written) {
            Some(position) => position,
            None => {
                self.written = 0;
                offset
            }
        }
    }
}
