//! Fuzzes INFO of any content through every collector.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| redvigil_fuzz::check(stringify!(info), data));
