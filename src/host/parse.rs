//! Pure parsers of the host's files. No I/O, exact keys, no panic on any input.

pub mod boot_id;
pub mod cpuinfo;
pub mod diskstats;
pub mod meminfo;
pub mod node;
pub mod process;
pub mod stat;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_input_panics(text in proptest::collection::vec(any::<u8>(), 0..300), word in "[a-zA-Z :()\n0-9]{0,80}") {
            for text in [text.as_slice(), word.as_bytes()] {
                let _ = (meminfo::meminfo(text), stat::stat(text), cpuinfo::cpuinfo(text));
                let _ = (process::stat(text), process::status(text), process::namespace(text));
                let _ = (process::timens_boottime(text), boot_id::boot_id(text));
                let _ = (node::total(&String::from_utf8_lossy(text)), diskstats::diskstats(text));
            }
        }

        /// Whatever a process calls itself, its start is read right.
        #[test]
        fn no_name_shifts_the_fields(name in "\\PC{0,16}", start in 0..u64::MAX) {
            let text = format!("7 ({name}) R 1 7 7 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 {start} 1 2\n");
            prop_assert_eq!(process::stat(text.as_bytes()).map(|s| (s.state, s.start.0)), Some((b'R', start)));
        }
    }
}
