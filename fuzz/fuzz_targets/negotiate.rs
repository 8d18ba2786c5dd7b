//! Fuzzes what a client says that it accepts.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| redvigil_fuzz::check(stringify!(negotiate), data));
