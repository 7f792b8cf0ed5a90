//! How a worker ended.

/// The end of a worker, as the holder saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Exit(u8),
    /// A signal ended it.
    Signal(u8),
    /// It did not move any more, and the holder killed it.
    Hung,
    /// It was at one request for too long, and the holder killed it.
    Stuck,
    /// Somebody stopped it (SIGSTOP), and the holder killed it.
    Stopped,
    /// A newer one took its place.
    Replaced,
}

impl End {
    /// The exit code of a worker that lacks a part which only a new one can have: a copy-out helper
    /// of it was killed.
    pub const RENEW: u8 = 79;

    /// As one number for the shared memory; 0 stands for none.
    #[must_use]
    pub const fn code(self) -> u64 {
        match self {
            Self::Exit(code) => 0x100 | code as u64,
            Self::Signal(signal) => 0x200 | signal as u64,
            Self::Hung => 0x300,
            Self::Stopped => 0x400,
            Self::Replaced => 0x500,
            Self::Stuck => 0x600,
        }
    }

    /// What [`End::code`] made.
    #[must_use]
    pub const fn from_code(code: u64) -> Option<Self> {
        let low = (code & 0xff) as u8;
        match code >> 8 {
            1 => Some(Self::Exit(low)),
            2 => Some(Self::Signal(low)),
            3 => Some(Self::Hung),
            4 => Some(Self::Stopped),
            5 => Some(Self::Replaced),
            6 => Some(Self::Stuck),
            _ => None,
        }
    }

    /// Whether the worker is to blame, and not somebody who killed it, or the kernel for want of memory.
    #[must_use]
    pub const fn is_own_fault(self) -> bool {
        !matches!(self, Self::Signal(9 | 15) | Self::Exit(Self::RENEW) | Self::Stopped | Self::Replaced)
    }

    /// Whether one of the requests that were being answered may have caused it. Where even the thread stood still that does
    /// nothing but beat, the whole process was kept from running (its group was frozen, a debugger has it): those that
    /// are sent again may then not be answered plainly for having been there twice.
    #[must_use]
    pub const fn may_be_a_requests(self) -> bool {
        self.is_own_fault() && !matches!(self, Self::Hung)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exited with code {code}"),
            Self::Signal(9) => f.write_str("was killed (signal 9)"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::Hung => f.write_str("hung and was killed"),
            Self::Stuck => f.write_str("hung in a request and was killed"),
            Self::Stopped => f.write_str("was stopped by somebody and killed"),
            Self::Replaced => f.write_str("was replaced"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back() {
        for end in
            [End::Exit(0), End::Exit(255), End::Signal(6), End::Hung, End::Stopped, End::Replaced, End::Stuck]
        {
            assert_eq!(End::from_code(end.code()), Some(end));
        }
        assert_eq!(End::from_code(0), None);
        assert!(End::Signal(6).is_own_fault() && End::Hung.is_own_fault() && End::Exit(0).is_own_fault());
        assert!(!End::Signal(9).is_own_fault());
        assert!(End::Stuck.may_be_a_requests() && End::Signal(6).may_be_a_requests());
        assert!(!End::Hung.may_be_a_requests() && !End::Signal(9).may_be_a_requests());
    }
}
