//! `/proc/sys/kernel/random/boot_id`.

use crate::cgroup::ParseError;

/// A UUID in the kernel's form (`%pU`, lib/vsprintf.c): 32 hexadecimal digits in five groups with hyphens between.
pub fn boot_id(text: &[u8]) -> Result<[u8; 16], ParseError> {
    let fault = || ParseError::new("expected a UUID", text);
    let digits = text.trim_ascii();
    let mut id = [0u8; 16];
    let mut count = 0;
    for (at, byte) in digits.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return Err(fault());
            }
            continue;
        }
        let digit =
            char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(fault)?;
        let place = id.get_mut(count / 2).ok_or_else(fault)?;
        *place = *place << 4 | digit;
        count += 1;
    }
    if digits.len() == 36 { Ok(id) } else { Err(fault()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_form_alone() {
        let id = boot_id(b"75b90f2a-4863-4f14-bd8a-e304d9d5c132\n").unwrap();
        assert_eq!(id[..6], [0x75, 0xb9, 0x0f, 0x2a, 0x48, 0x63]);
        assert_eq!(id[15], 0x32);
        for bad in [
            "",
            "75b90f2a48634f14bd8ae304d9d5c132",
            "75b90f2a-4863-4f14-bd8a-e304d9d5c13",
            "75b90f2a-4863-4f14-bd8a-e304d9d5c1321",
            "75b90f2a-4863-4f14-bd8a-e304d9d5c13g",
            "75b90f2a-4863-4f14-bd8a_e304d9d5c132",
        ] {
            assert!(boot_id(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
