//! `/proc/swaps`.

use super::number::push;
use crate::model::Bytes;
use crate::view::MemoryView;

/// `swap_show`, mm/swapfile.c.
const HEADER: &[u8] = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
/// No path, so that nobody opens it: the swap is a limit, not a device.
const NAME: &[u8] = b"none";
const TYPE: &[u8] = b"virtual\t";
/// Names are padded to this many columns.
const NAME_WIDTH: usize = 40;
/// Shorter numbers are followed by two tabs.
const WIDE: u64 = 10_000_000;
/// What the kernel gives to the first area that is switched on without a priority.
const PRIORITY: &[u8] = b"-2";

/// The header, and one line of the container's whole swap where it has any. Numbers in kB, those of `/proc/meminfo`.
pub fn swaps(view: &MemoryView, out: &mut Vec<u8>) {
    out.extend_from_slice(HEADER);
    let kib = |size: Bytes| size.whole_pages().kib();
    let (size, free) = (kib(view.swap_total), kib(view.swap_free));
    if size == 0 {
        return;
    }
    out.extend_from_slice(NAME);
    out.extend(std::iter::repeat_n(b' ', NAME_WIDTH - NAME.len()));
    out.extend_from_slice(TYPE);
    for number in [size, size.saturating_sub(free)] {
        out.push(b'\t');
        push(out, number);
        if number < WIDE {
            out.push(b'\t');
        }
    }
    out.push(b'\t');
    out.extend_from_slice(PRIORITY);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HostMeminfo, MemoryReading, Policies, SwapPolicy};
    use crate::view;

    fn rendered(total: u64, free: u64) -> String {
        let view = MemoryView {
            swap_total: Bytes::from_kib(total),
            swap_free: Bytes::from_kib(free),
            ..Default::default()
        };
        let mut out = Vec::new();
        swaps(&view, &mut out);
        String::from_utf8(out).unwrap()
    }

    const HEAD: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

    #[test]
    fn w1_one_line_in_the_kernels_columns() {
        // The kernel's own: /dev/vdb                                partition\t524284\t\t0\t\t-2
        let line = "none                                    virtual\t\t524284\t\t1024\t\t-2\n";
        assert_eq!(rendered(524_284, 523_260), format!("{HEAD}{line}"));
        let line = "none                                    virtual\t\t16777212\t10000000\t-2\n";
        assert_eq!(rendered(16_777_212, 6_777_212), format!("{HEAD}{line}"));
    }

    #[test]
    fn w2_what_is_used_is_what_meminfo_does_not_call_free() {
        let used = |total, free| {
            let text = rendered(total, free);
            text.lines().nth(1).unwrap().split_whitespace().nth(3).unwrap().to_owned()
        };
        assert_eq!((used(100, 28), used(100, 100), used(100, 104)), ("72".into(), "0".into(), "0".into()));
    }

    #[test]
    fn w3_without_swap_the_header_alone() {
        assert_eq!(rendered(0, 0), HEAD);
        assert_eq!(rendered(0, 7), HEAD);
        let host = HostMeminfo { swap_total: Bytes::from_kib(5), ..Default::default() };
        let hidden = Policies { swap: SwapPolicy::Hide, ..Default::default() };
        let mut out = Vec::new();
        swaps(&view::memory(&MemoryReading::default(), &host, &hidden), &mut out);
        assert_eq!(out, HEAD.as_bytes());
    }
}
