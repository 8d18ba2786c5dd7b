//! Fuzzes what an operator or a caller writes: addresses, key lists, host patterns, password files.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| redvigil_fuzz::check(stringify!(words), data));
