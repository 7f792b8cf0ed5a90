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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t6_hundredths_are_cut_off_and_padded() {
        let mut out = Vec::new();
        uptime(&UptimeView { uptime: Usec(3_509_999), idle: Usec(70_049_999) }, &mut out);
        uptime(&UptimeView { uptime: Usec(0), idle: Usec(u64::MAX) }, &mut out);
        assert_eq!(out, b"3.50 70.04\n0.00 18446744073709.55\n");
    }
}
