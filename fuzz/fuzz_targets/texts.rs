//! Fuzzes any text as the answer to every command but INFO: CLIENT LIST, CLUSTER NODES, modules and the like.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| redvigil_fuzz::check(stringify!(texts), data));
