//! Names of containers, as runc takes them.

use super::OciError;

/// Longest name, in bytes: it is the name of a directory.
const LONGEST: usize = 255;

/// Checks a name: letters, digits and `_ + - .`, neither `.` nor `..`. It becomes a name in directories of root's.
pub fn check(id: &str) -> Result<&str, OciError> {
    let good = (1..=LONGEST).contains(&id.len())
        && id != "."
        && id != ".."
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte));
    if good { Ok(id) } else { Err(OciError::Id(id.chars().take(80).collect())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "web-1", "A_b+c.d", ".hidden", "123", &"x".repeat(255)] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../x", "a b", "a\n", "\u{e9}", &"x".repeat(256)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
