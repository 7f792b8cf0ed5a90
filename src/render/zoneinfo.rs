//! `/proc/zoneinfo`.

use super::number::push;
use super::vmstat::number;
use crate::model::CpuSet;
use crate::view::PagesView;

const PER_NODE: &str = "  per-node stats";
const PAGES_FREE: &str = "  pages free";
const PAGESETS: &str = "  pagesets";
const CPU: &str = "    cpu: ";
/// The only line of a CPU's that does not stand further right (`zoneinfo_show_print`, mm/vmstat.c).
const CPU_THRESHOLD: &str = "  vm stats threshold";

/// One zone of the container's size, laid out as the host's first populated `Normal` zone, or else its first
/// populated one.
///
/// `cpus` are the shown CPUs by their shown numbers: each has a page set.
pub fn zoneinfo(host: &str, view: &PagesView, cpus: &CpuSet, out: &mut Vec<u8>) {
    let Some(zone) = template(host) else { return };
    zone_head(view.node, out);
    out.push(b'\n');
    let per_node = zones(host).find_map(|(_, body)| per_node(body));
    if let Some(lines) = per_node {
        out.extend_from_slice(PER_NODE.as_bytes());
        out.push(b'\n');
        lines.lines().for_each(|line| write(line, |key| number(key, view), out));
    }
    let mut lines = own(zone).lines().peekable();
    while let Some(line) = lines.next() {
        if line == PAGESETS {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        } else if line.starts_with(CPU) {
            let mut first = vec![line];
            while let Some(more) = lines.next_if(|line| of_cpu(line)) {
                first.push(more);
            }
            pagesets(&first, cpus, out);
            // those of the host's other CPUs
            while lines.next_if(|line| line.starts_with(CPU) || of_cpu(line)).is_some() {}
        } else if line.trim_start().starts_with("protection:") {
            zeroed(line, out);
        } else {
            write(line, |key| size(key, view), out);
        }
    }
}

/// `Node 0, zone   Normal`: the node and the zone that are shown.
pub(super) fn zone_head(node: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Node ");
    push(out, node as u64);
    out.extend_from_slice(b", zone   Normal");
}

/// What a line of the zone itself says; 0 for all that no group keeps.
fn size(key: &str, view: &PagesView) -> u64 {
    match key {
        "pages free" => view.free(),
        "spanned" | "present" | "managed" => view.total(),
        _ => number(key, view),
    }
}

/// Every zone of the text: its name and its lines without the first.
fn zones(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let (head, after) = rest.split_once('\n').unwrap_or((rest, ""));
            let end =
                if after.starts_with("Node ") { Some(0) } else { after.find("\nNode ").map(|at| at + 1) };
            let (body, next) = after.split_at(end.unwrap_or(after.len()));
            rest = next;
            if let Some((_, name)) = head.strip_prefix("Node ").and_then(|head| head.split_once(", zone ")) {
                return Some((name.trim(), body));
            }
        }
    })
}

/// The lines of the zone to follow. Only populated zones have page sets.
fn template(text: &str) -> Option<&str> {
    let mut populated = zones(text).filter(|(_, body)| body.lines().any(|line| line == PAGESETS));
    let first = populated.next()?;
    let normal = std::iter::once(first).chain(populated).find(|(name, _)| *name == "Normal");
    Some(normal.unwrap_or(first).1)
}

/// The lines between `per-node stats` and the zone's own, where this zone has them: the first of each node.
fn per_node(body: &str) -> Option<&str> {
    let lines = body.strip_prefix(PER_NODE)?.strip_prefix('\n')?;
    lines.find(PAGES_FREE).and_then(|end| lines.get(..end))
}

/// The zone's own lines.
fn own(body: &str) -> &str {
    body.find(PAGES_FREE).and_then(|start| body.get(start..)).unwrap_or_default()
}

fn of_cpu(line: &str) -> bool {
    line.starts_with("          ") || line.starts_with(CPU_THRESHOLD)
}

/// The lines of one CPU for each that is shown, all 0.
fn pagesets(lines: &[&str], cpus: &CpuSet, out: &mut Vec<u8>) {
    for cpu in cpus.iter() {
        for line in lines {
            write(line, |_| if line.starts_with(CPU) { cpu as u64 } else { 0 }, out);
        }
    }
}

/// A line that ends in a number, with the number that `value` has for its key. Others are left out.
fn write(line: &str, value: impl FnOnce(&str) -> u64, out: &mut Vec<u8>) {
    let start = line.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (before, digits) = line.split_at(start);
    let key = before.trim();
    if digits.is_empty() || key.is_empty() || !before.ends_with(' ') {
        return;
    }
    out.extend_from_slice(before.as_bytes());
    push(out, value(key));
    out.push(b'\n');
}

/// A line with 0 in place of every number.
fn zeroed(line: &str, out: &mut Vec<u8>) {
    let mut in_number = false;
    for byte in line.bytes() {
        let digit = byte.is_ascii_digit();
        if !digit {
            out.push(byte);
        } else if !in_number {
            out.push(b'0');
        }
        in_number = digit;
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
