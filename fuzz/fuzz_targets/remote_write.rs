//! Fuzzes bodies of remote write, as they come from a disk.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| redvigil_fuzz::check(stringify!(remote_write), data));
