//! `/proc/buddyinfo`.

use super::number::{push, width};
use super::zoneinfo::zone_head;
use crate::view::{PagesView, blocks};

/// One zone, with as many columns as the host's lines have.
pub fn buddyinfo(host: &str, view: &PagesView, out: &mut Vec<u8>) {
    let Some(orders) = host.lines().find_map(columns) else { return };
    zone_head(view.node, out);
    out.push(b' ');
    for count in blocks(view.free(), orders) {
        out.extend(std::iter::repeat_n(b' ', 6usize.saturating_sub(width(count))));
        push(out, count);
        out.push(b' ');
    }
    out.push(b'\n');
}

/// How many numbers a line has: `Node 0, zone   Normal   1441    741 ...` (`frag_show_print`, mm/vmstat.c).
fn columns(line: &str) -> Option<usize> {
    let rest = line.strip_prefix("Node ")?.split_once(", zone ")?.1;
    let numbers = rest.split_whitespace().skip(1);
    let count = numbers.take_while(|word| word.bytes().all(|byte| byte.is_ascii_digit())).count();
    (count > 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Bytes, PageSizes, Policies};
    use crate::view::MemoryView;

    fn rendered(host: &str, free_pages: u64, node: usize) -> String {
        let memory = MemoryView { free: Bytes(free_pages * 4096), ..Default::default() };
        let view = PagesView::new(memory, PageSizes::new(Bytes(4096), None), &Policies::default());
        let mut out = Vec::new();
        buddyinfo(host, &PagesView { node, ..view }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn z6_the_hosts_columns_hold_memfree() {
        let host = "Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      3 \n\
            Node 0, zone   Normal   1441    741   2217    701    108      9      3      1      2    107    891 \n";
        assert_eq!(
            rendered(host, 0b1101 << 10 | 0b10_0000_0101, 0),
            "Node 0, zone   Normal      1      0      1      0      0      0      0      0      0      1     13 \n"
        );
        assert_eq!(
            rendered("Node 0, zone  DMA 1 2 \n", 3_000_001, 2),
            "Node 2, zone   Normal      1 1500000 \n"
        );
    }

    #[test]
    fn z6_without_a_line_to_follow_there_is_none() {
        for host in ["", "Node 0, zone DMA\n", "zone Normal 1 2 3\n", "Node 0, zone  DMA x\n"] {
            assert_eq!(rendered(host, 5, 0), "", "{host:?}");
        }
    }
}
