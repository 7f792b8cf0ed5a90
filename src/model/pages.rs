//! Sizes of pages.

use super::units::Bytes;

/// How large the running kernel's pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSizes {
    /// A page, never 0.
    pub base: Bytes,
    /// A transparent huge page: what the kernel maps with one entry of a middle page table.
    pub huge: Bytes,
}

impl PageSizes {
    /// `huge` where the kernel says it; else what a page full of 8-byte entries maps, as on x86 and arm64.
    #[must_use]
    pub fn new(base: Bytes, huge: Option<Bytes>) -> Self {
        let base = base.max(Bytes(1));
        let huge = huge.filter(|huge| *huge >= base).unwrap_or_else(|| base.times((base.0 / 8).max(1)));
        Self { base, huge }
    }

    /// Whole pages in a size.
    #[must_use]
    pub fn pages(self, size: Bytes) -> u64 {
        size.0.checked_div(self.base.0).unwrap_or_default()
    }

    /// Whole transparent huge pages in a size.
    #[must_use]
    pub fn huge_pages(self, size: Bytes) -> u64 {
        size.0.checked_div(self.huge.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_of_both_architectures() {
        assert_eq!(PageSizes::new(Bytes(4096), None).huge, Bytes(2 << 20));
        assert_eq!(PageSizes::new(Bytes(16_384), None).huge, Bytes(32 << 20));
        assert_eq!(PageSizes::new(Bytes(65_536), None).huge, Bytes(512 << 20));
        assert_eq!(PageSizes::new(Bytes(4096), Some(Bytes(1 << 20))).huge, Bytes(1 << 20));
        assert_eq!(PageSizes::new(Bytes(4096), Some(Bytes::ZERO)).huge, Bytes(2 << 20));
        assert_eq!(PageSizes::new(Bytes::ZERO, None).pages(Bytes(5)), 5);
    }
}
