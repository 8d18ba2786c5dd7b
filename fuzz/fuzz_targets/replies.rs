//! Fuzzes any replies to every command but INFO.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| redvigil_fuzz::check(stringify!(replies), data));
