//! `struct sysinfo` of linux/sysinfo.h, for 64-bit and for 32-bit callers.

use crate::model::Bytes;
use crate::view::SysinfoView;

/// Its size for a 64-bit caller.
pub const SYSINFO_64: usize = 112;
/// And for a 32-bit one (`struct compat_sysinfo`, kernel/sys.c).
pub const SYSINFO_32: usize = 64;

/// Pages of the machines that run 32-bit programs.
const PAGE: u64 = 4096;

/// For a 64-bit caller. Sizes are in bytes: `mem_unit` is 1.
#[must_use]
pub fn sysinfo(view: &SysinfoView) -> [u8; SYSINFO_64] {
    let [first, second, third] = view.loads;
    let words = [view.uptime, first, second, third, view.total.0, view.free.0, view.shared.0, 0];
    let mut out = Fields::<SYSINFO_64>::new();
    words.iter().chain(&[view.swap_total.0, view.swap_free.0]).for_each(|word| out.put(&word.to_ne_bytes()));
    out.put(&view.tasks.to_ne_bytes());
    out.put(&[0; 6]);
    out.put(&[0; 16]); // no high memory
    out.put(&1_u32.to_ne_bytes());
    out.bytes
}

/// For a 32-bit caller. Where a size needs more than 32 bits all are in pages, as the kernel has it (`compat_sys_sysinfo`).
#[must_use]
pub fn sysinfo_32(view: &SysinfoView) -> [u8; SYSINFO_32] {
    let large = |size: Bytes| size.0 > u64::from(u32::MAX);
    let unit = if large(view.total) || large(view.swap_total) { PAGE } else { 1 };
    let short = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_ne_bytes();
    let mut out = Fields::<SYSINFO_32>::new();
    // signed there
    out.put(&i32::try_from(view.uptime).unwrap_or(i32::MAX).to_ne_bytes());
    view.loads.iter().for_each(|load| out.put(&short(*load)));
    let sizes = [view.total, view.free, view.shared, Bytes::ZERO, view.swap_total, view.swap_free];
    sizes.iter().for_each(|size| out.put(&short(size.0 / unit)));
    out.put(&view.tasks.to_ne_bytes());
    out.put(&[0; 2]);
    out.put(&[0; 8]);
    out.put(&short(unit));
    out.bytes
}

/// Fields in their order; what follows the last is 0.
struct Fields<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Fields<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], at: 0 }
    }

    fn put(&mut self, field: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.at).zip(field) {
            *to = *from;
        }
        self.at += field.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> SysinfoView {
        SysinfoView {
            uptime: 77,
            loads: [1, 2, 3],
            total: Bytes(5 << 30),
            free: Bytes(3 << 30),
            shared: Bytes(1 << 20),
            swap_total: Bytes(2 << 30),
            swap_free: Bytes(1 << 30),
            tasks: 9,
        }
    }

    /// Read by the C library's own structure.
    #[test]
    fn a5_as_the_kernel_lays_it_out() {
        assert_eq!(size_of::<libc::sysinfo>(), SYSINFO_64);
        let bytes = sysinfo(&view());
        // SAFETY: it is as long as the structure, of which all bytes are valid.
        let info: libc::sysinfo = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
        assert_eq!((info.uptime, info.loads, info.procs, info.mem_unit), (77, [1, 2, 3], 9, 1));
        assert_eq!((info.totalram, info.freeram), (5 << 30, 3 << 30));
        assert_eq!((info.sharedram, info.bufferram), (1 << 20, 0));
        assert_eq!((info.totalswap, info.freeswap), (2 << 30, 1 << 30));
        assert_eq!((info.totalhigh, info.freehigh), (0, 0));
    }

    #[test]
    fn a6_for_32_bit_callers() {
        let word = |bytes: &[u8; SYSINFO_32], at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let large = sysinfo_32(&view());
        let words: Vec<u32> = (0..10).map(|index| word(&large, 4 * index)).collect();
        let pages = |bytes: u64| u32::try_from(bytes / 4096).expect("few");
        let sizes = [5 << 30, 3 << 30, 1 << 20, 0, 2 << 30, 1 << 30].map(pages);
        assert_eq!(words, [&[77, 1, 2, 3][..], &sizes].concat());
        assert_eq!((u16::from_ne_bytes([large[40], large[41]]), word(&large, 52)), (9, 4096));
        let small =
            SysinfoView { total: Bytes(64 << 20), free: Bytes(1 << 20), swap_total: Bytes(0), ..view() };
        let small = sysinfo_32(&small);
        assert_eq!((word(&small, 16), word(&small, 20), word(&small, 52)), (64 << 20, 1 << 20, 1));
        let old = sysinfo_32(&SysinfoView { uptime: u64::MAX, ..view() });
        assert_eq!(word(&old, 0), i32::MAX.cast_unsigned());
    }
}
