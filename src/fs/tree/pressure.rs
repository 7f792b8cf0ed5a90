//! Pressure triggers: what is written to a pressure file, and what poll(2) is told.

use std::sync::Arc;

use nix::errno::Errno;

use super::{Opened, PollEvents, Tree};
use crate::containers::kept::RecordKey;
use crate::containers::{Remembered, View};
use crate::fs::Refusal;
use crate::fs::inode::{Node, Place};
use crate::fs::snapshots::Handle;
use crate::fs::triggers::{self, Event, Notify, Trigger, Triggers};
use crate::host::Process;
use crate::model::HostPid;
use crate::model::saved::{Saved, put, put_bytes};
use crate::readings;

/// Bit 24 of a capability set (capabilities(7)).
const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// A file whose trigger was set in the process before this one.
#[derive(Debug)]
pub(super) struct Unarmed {
    pub(super) handle: Handle,
    /// Of the container that it counts for; `None` for the host's own readers.
    pub(super) owner: Option<RecordKey>,
    /// What the kernel polls it by.
    pub(super) poll: Option<u64>,
}

/// What is kept of a trigger: the request that brought it, and its text.
fn saved(unique: u64, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    put(&mut out, unique);
    put_bytes(&mut out, text);
    out
}

fn of_saved(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut saved = Saved(bytes);
    let (unique, text) = (saved.number()?, saved.bytes()?);
    saved.end((unique, text))
}

impl Tree {
    /// Whether the node is a pressure file, and those take triggers here.
    pub(super) fn takes_triggers(&self, node: Node) -> bool {
        matches!(node, Node::ProcFile(file) if self.triggers.is_some() && file.pressure().is_some())
    }

    /// Whether a thread has CAP_SYS_RESOURCE, so that the kernel would give its trigger a thread.
    pub(super) fn may_spawn_threads(&self, tid: u32) -> bool {
        let task = i32::try_from(tid).ok().and_then(HostPid::new);
        task.and_then(|task| Process::status_of(&self.host, task))
            .is_some_and(|status| status.effective & CAP_SYS_RESOURCE != 0)
    }

    /// Takes a trigger from the thread `tid`. One per open file, as the kernel has it; `unique` is the request's id, which
    /// tells a second from the first that is sent again since its answer was lost.
    pub fn write(&self, handle: Handle, text: &[u8], tid: u32, unique: u64) -> Result<(), Refusal> {
        let mut open = self.files.get(handle).ok_or(Refusal(Errno::EBADF))?;
        let before = open.written().map(|bytes| of_saved(bytes).is_some_and(|(by, _)| by == unique));
        let opened = open.opened().ok_or(Refusal(Errno::EBADF))?;
        let (Some(privileged), Some(triggers)) = (opened.writer, &self.triggers) else {
            return Err(Refusal(Errno::EBADF));
        };
        let Node::ProcFile(file) = opened.place.node else { return Err(Refusal(Errno::EBADF)) };
        match before {
            Some(true) => return Ok(()),
            Some(false) => return Err(Refusal(Errno::EBUSY)),
            None => {}
        }
        let view = match opened.view.as_ref().and_then(Remembered::view) {
            Some(view) => view,
            None => self.view(opened.place.scope, tid)?,
        };
        let (subject, count) = match &view {
            View::Container(contained) => (Some(&*contained.subject), &contained.limits.triggers),
            View::Host => (None, &triggers.hosts),
            View::Unknown => return Err(Refusal(Errno::EIO)),
        };
        opened.view = Some(view.remembered());
        let place = triggers::Place::take(count)?;
        let pressure = readings::open_pressure(file, subject, &self.host, privileged)?;
        let trigger = triggers.arm(pressure, text, place)?;
        let moved = text.len() as u64;
        if !open.keep_written(&saved(unique, text), moved) {
            return Err(Refusal(Errno::ENOSPC));
        }
        let opened = open.opened().ok_or(Refusal(Errno::EBADF))?;
        opened.trigger = Some(trigger);
        opened.written = moved;
        Ok(())
    }

    /// What poll(2) says of an open file; `notify`, with the kernel's handle, asks to be told of changes. ENOSYS where nothing
    /// ever changes: the kernel then says by itself that files are readable and writable, as it does for its own.
    pub fn poll(&self, handle: Handle, notify: Option<(u64, Notify)>) -> Result<PollEvents, Refusal> {
        if self.triggers.is_none() {
            return Err(Refusal(Errno::ENOSYS));
        }
        let mut open = self.files.get(handle).ok_or(Refusal(Errno::EBADF))?;
        if let Some((by, _)) = &notify {
            open.keep_poll(*by);
        }
        let has_written = open.written().is_some();
        let opened = open.opened().ok_or(Refusal(Errno::EBADF))?;
        if !self.takes_triggers(opened.place.node) {
            return Ok(PollEvents::Ready);
        }
        let notify = notify.map(|(_, notify)| notify);
        Ok(match opened.trigger.as_ref().map(|trigger| trigger.poll(notify)) {
            Some(Event::None) => PollEvents::Ready,
            Some(Event::Fired) => PollEvents::Fired,
            // of the process before this one, and not set again yet: whoever polls is told then
            None if has_written && !opened.lost_trigger => PollEvents::Ready,
            // the kernel says the same of a file without a trigger
            Some(Event::Gone) | None => PollEvents::Broken,
        })
    }

    /// Sets the triggers again that the process before this one had, and tells those who wait for them to look again: what
    /// happened in between was seen by nobody. `notifier` makes, of the kernel's handle, what tells it. What was kept of
    /// containers that are gone is let go of as well: all that takes too long before the first answer.
    pub fn rearm(&self, notifier: &dyn Fn(u64) -> Notify) {
        self.set_triggers_again(notifier);
        self.resolver.forget_gone();
    }

    fn set_triggers_again(&self, notifier: &dyn Fn(u64) -> Notify) {
        let Some(triggers) = &self.triggers else { return };
        for Unarmed { handle, owner, poll } in std::mem::take(&mut *self.unarmed.lock()) {
            let Some(mut open) = self.files.get(handle) else { continue };
            let Some(text) = open.written().and_then(of_saved).map(|(_, text)| text.to_vec()) else {
                continue;
            };
            let Some(opened) = open.opened() else { continue };
            let notify = poll.map(notifier);
            match self.arm_again(triggers, opened, owner.as_ref(), &text) {
                Ok(trigger) => opened.trigger = Some(trigger),
                Err(refusal) => {
                    log::warn!("a pressure trigger is lost: {}", refusal.0);
                    opened.lost_trigger = true;
                }
            }
            if let Some(notify) = notify {
                notify();
                if let Some(trigger) = &opened.trigger {
                    trigger.tell(notify);
                }
            }
        }
    }

    fn arm_again(
        &self,
        triggers: &Triggers,
        opened: &Opened,
        owner: Option<&RecordKey>,
        text: &[u8],
    ) -> Result<Trigger, Refusal> {
        let (Place { node: Node::ProcFile(file), .. }, Some(privileged)) = (opened.place, opened.writer)
        else {
            return Err(Refusal(Errno::EBADF));
        };
        let (subject, count) = match owner {
            Some(key) => {
                let (subject, limits) = self.resolver.of_record(key).ok_or(Refusal(Errno::ENOENT))?;
                (Some(subject), Arc::clone(&limits.triggers))
            }
            None => (None, Arc::clone(&triggers.hosts)),
        };
        let place = triggers::Place::take(&count)?;
        let pressure = readings::open_pressure(file, subject.as_deref(), &self.host, privileged)?;
        Ok(triggers.arm(pressure, text, place)?)
    }

    /// Cuts a file to nothing, as an open with O_TRUNC asks: a file that takes writes has nothing to cut.
    pub fn truncate(&self, place: Place) -> Result<super::Attr, Refusal> {
        if self.takes_triggers(place.node) { self.attr(place) } else { Err(Refusal(Errno::EACCES)) }
    }
}
