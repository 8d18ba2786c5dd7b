//! Fuzzes the configuration file, and configurations of Prometheus that are migrated.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| redvigil_fuzz::check(stringify!(config_document), data));
