//! `/proc/uptime`.

use super::number::{push, push_two};
use crate::model::Usec;
use crate::view::UptimeView;

/// `UPTIME IDLE`, seconds with two decimals (`fs/proc/uptime.c`).
pub fn uptime(view: &UptimeView, out: &mut Vec<u8>) {
    seconds(view.uptime, out);
    out.push(b' ');
    seconds(view.idle, out);
    out.push(b'\n');
}

fn seconds(time: Usec, out: &mut Vec<u8>) {
    push(out, time.0 / 1_000_000);
    out.push(b'.');
    push_two(out, time.0 % 1_000_000 / 10_000);
}
