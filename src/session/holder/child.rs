//! One worker as the holder knows it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::session::end::End;
use crate::session::link::{self, Heard, Order};
use crate::session::restart::{Kind, Millis};

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It prepares.
    Starting,
    /// It waits for the order to take over.
    Prepared,
    /// It was given that order then.
    TakingOver(Millis),
    /// It has answered a read.
    Serving,
    /// It was told to leave then.
    Leaving(Millis),
}

/// A worker.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: Pid,
    link: OwnedFd,
    pub(super) kind: Kind,
    pub(super) started: Millis,
    pub(super) stage: Stage,
    took_over: Option<Millis>,
    /// The link has ended: nothing more is to be heard.
    silent: bool,
    /// Why we killed it.
    killed: Option<End>,
}

impl Child {
    pub(super) const fn new(pid: Pid, link: OwnedFd, kind: Kind, started: Millis) -> Self {
        let stage = Stage::Starting;
        Self { pid, link, kind, started, stage, took_over: None, silent: false, killed: None }
    }

    pub(super) fn link(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    pub(super) const fn is_silent(&self) -> bool {
        self.silent
    }

    /// When it was told to take over.
    pub(super) const fn took_over(&self) -> Option<Millis> {
        match self.stage {
            Stage::TakingOver(at) => Some(at),
            _ => self.took_over,
        }
    }

    pub(super) fn order(&self, order: Order) {
        // One that cannot be told anything is gone, or is found out by its heartbeat.
        let _ = link::order(self.link.as_fd(), order);
    }

    pub(super) fn hear(&mut self) -> Heard {
        if self.silent {
            return Heard::Nothing;
        }
        let heard = link::hear(self.link.as_fd());
        if matches!(heard, Heard::Closed) {
            self.silent = true;
        }
        if let (Heard::Word(_), Stage::TakingOver(at)) = (&heard, self.stage) {
            self.took_over = Some(at);
        }
        heard
    }

    pub(super) fn leave(&mut self, time: Millis) {
        if !matches!(self.stage, Stage::Leaving(_)) {
            self.order(Order::Leave);
            self.stage = Stage::Leaving(time);
        }
    }

    pub(super) fn kill(&mut self, why: End) {
        self.killed.get_or_insert(why);
        // It is our child and not reaped, so that the number is still its own.
        let _ = kill_process(self.pid, Signal::KILL);
    }

    /// How it ended, if it did; it is reaped then. One that somebody stopped is killed.
    pub(super) fn ended(&mut self) -> Option<End> {
        let flags = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let status = match waitid(WaitId::Pid(self.pid), flags) {
            Ok(Some(status)) => status,
            Ok(None) => return None,
            Err(rustix::io::Errno::INTR) => return None,
            // Somebody else reaped it: it is gone all the same.
            Err(_) => return Some(self.killed.unwrap_or(End::Exit(255))),
        };
        if status.stopped() {
            self.kill(End::Stopped);
            return None;
        }
        let byte = |number: i32| u8::try_from(number).unwrap_or(255);
        let end = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => End::Exit(byte(code)),
            (None, Some(signal)) => End::Signal(byte(signal)),
            (None, None) => return None,
        };
        Some(match (self.killed, self.stage) {
            (Some(why), _) => why,
            (None, Stage::Leaving(_)) => End::Replaced,
            _ => end,
        })
    }
}
