//! Fuzzes what Sentinels publish: events, and the greetings by which they find each other.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| redvigil_fuzz::check(stringify!(sentinel_events), data));
