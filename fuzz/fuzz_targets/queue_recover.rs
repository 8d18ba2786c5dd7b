//! Fuzzes what is found when a queue is opened.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| redvigil_fuzz::check(stringify!(queue_recover), data));
