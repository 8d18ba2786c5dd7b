//! Fuzzes what Sentinels answer: masters, replicas, fellows, quorums, roles.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| redvigil_fuzz::check(stringify!(sentinel_replies), data));
