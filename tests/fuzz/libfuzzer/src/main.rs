//! The target is the one that the program is named after: tests/fuzz/run links it under the name of each. One build
//! serves them all.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

fn target() -> fn(&[u8]) {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let own = std::env::args().next().unwrap_or_default();
        let name = own.rsplit('/').next().unwrap_or_default();
        ownproc_fuzz::find(name).unwrap_or_else(|| panic!("no target is named {name}")).1
    })
}

fuzz_target!(|data: &[u8]| target()(data));
