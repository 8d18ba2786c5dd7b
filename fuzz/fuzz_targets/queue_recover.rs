//! Fuzzes the files of a queue: changed anyhow, with checksums that hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| redvigil_fuzz::check(stringify!(queue_recover), data));
