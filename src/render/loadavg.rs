//! `/proc/loadavg`.

use super::number::{push, push_two};
use crate::view::LoadView;

/// Three averages with two decimals, `RUNNING/TOTAL`, the last pid (`loadavg_proc_show`, fs/proc/loadavg.c).
pub fn loadavg(view: &LoadView, out: &mut Vec<u8>) {
    for average in view.averages.0 {
        // The kernel rounds to the nearest: it adds 1/200 and cuts off. A cast saturates, and makes 0 of what is no number.
        let hundredths = (average * 100.0 + 0.5) as u64;
        push(out, hundredths / 100);
        out.push(b'.');
        push_two(out, hundredths % 100);
        out.push(b' ');
    }
    push(out, view.running);
    out.push(b'/');
    push(out, view.total);
    out.push(b' ');
    push(out, view.last_pid);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Averages;

    fn line(averages: [f64; 3]) -> String {
        let mut out = Vec::new();
        loadavg(&LoadView { averages: Averages(averages), running: 2, total: 11, last_pid: 42 }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn l6_the_kernels_format() {
        assert_eq!(line([0.0, 1.0, 12.5]), "0.00 1.00 12.50 2/11 42\n");
        assert_eq!(line([0.004_9, 0.005_1, 1.999]), "0.00 0.01 2.00 2/11 42\n");
        assert_eq!(line([f64::NAN, -1.0, 0.07]), "0.00 0.00 0.07 2/11 42\n");
        assert!(line([f64::INFINITY, 0.0, 0.0]).starts_with("184467440737095516.15 "));
    }
}
