//! What tasks wait for.

/// One of the files of pressure stall information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PressureResource {
    /// CPU time.
    Cpu,
    /// Memory.
    Memory,
    /// Block I/O.
    Io,
    /// Interrupts (Linux 6.1, where the kernel accounts their time).
    Irq,
}

impl PressureResource {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Io, Self::Irq];

    /// The kernel's own file below `/proc`.
    #[must_use]
    pub const fn host_file(self) -> &'static str {
        match self {
            Self::Cpu => "pressure/cpu",
            Self::Memory => "pressure/memory",
            Self::Io => "pressure/io",
            Self::Irq => "pressure/irq",
        }
    }

    /// The file of a cgroup v2 group.
    #[must_use]
    pub const fn group_file(self) -> &'static str {
        match self {
            Self::Cpu => "cpu.pressure",
            Self::Memory => "memory.pressure",
            Self::Io => "io.pressure",
            Self::Irq => "irq.pressure",
        }
    }
}
