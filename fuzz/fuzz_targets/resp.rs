//! Fuzzes RESP in any pieces.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| redvigil_fuzz::check(stringify!(resp), data));
