//! Decimal numbers without the formatting machinery: this is the read path.

/// Appends `number`.
pub(super) fn push(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// How many digits `number` has.
pub(super) fn width(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Appends `number` with at least two digits, as the kernel's `%02lu`.
pub(super) fn push_two(out: &mut Vec<u8>, number: u64) {
    if number < 10 {
        out.push(b'0');
    }
    push(out, number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for number in [0, 9, 10, 99, 100, 12_345, u64::MAX] {
            let mut out = Vec::new();
            push(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
            assert_eq!(out.len(), width(number));
        }
        let mut out = Vec::new();
        push_two(&mut out, 7);
        push_two(&mut out, 70);
        assert_eq!(out, b"0770");
    }
}
