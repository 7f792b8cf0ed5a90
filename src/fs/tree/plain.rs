//! Answers without looking at any container: for a request that has ended the worker twice, and for the time in which
//! workers keep dying.

use super::{Opened, Reader, Tree, piece};
use crate::containers::View;
use crate::fs::Refusal;
use crate::fs::inode::{Place, Scope};
use crate::fs::snapshots::Handle;
use crate::model::OnUnreadable;
use crate::store::NewFile;
use nix::errno::Errno;

impl Tree {
    /// A tree that looks at no container: everybody sees the host's files, or, where the policy `on-unreadable` is
    /// `error`, none.
    #[must_use]
    pub fn into_plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Whether it is such a tree.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.plain
    }

    /// What a reader sees whose container is not looked at.
    pub(super) fn plain_view(&self) -> View {
        match self.registry.on_unreadable() {
            OnUnreadable::Host => View::Host,
            OnUnreadable::Error => View::Unknown,
        }
    }

    /// Opens a file without asking whose it is.
    pub fn open_plain(&self, place: Place, tid: u32, unique: u64) -> Result<Handle, Refusal> {
        let file = NewFile { ino: place.ino(), unique, tid, owner: None, writer: None };
        let opened =
            Opened { view: Some(self.plain_view().remembered()), fresh: true, ..Opened::new(place, 0, None) };
        self.files.open(&file, opened, 0).ok_or(Refusal(Errno::ENFILE))
    }

    /// The bytes of an open file, without rendering a container's: those of its snapshot, be it that offset 0 is read
    /// again, or the host's. A file that was opened before this worker was there is known by its inode.
    pub fn read_plain(
        &self,
        handle: Handle,
        ino: u64,
        offset: u64,
        size: u32,
        answer: impl FnOnce(&[u8]),
    ) -> Result<(), Refusal> {
        if let Some(open) = self.files.get(handle)
            && let Some(kept) = open.text()
        {
            answer(piece(kept, offset, size));
            return Ok(());
        }
        let place = Place::from_ino(ino).ok_or(Refusal(Errno::ENOENT))?;
        let mut text = Vec::new();
        self.render(&self.plain_view(), Reader { scope: Scope::Reader, tid: 0 }, place.node, &mut text)?;
        answer(piece(&text, offset, size));
        Ok(())
    }
}
