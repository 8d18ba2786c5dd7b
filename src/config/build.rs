//! Which build this is. It stands in this room because every other room may name it: the command line
//! prints it, the build information metric carries it.
//!
//! What a newcomer would get wrong: only release builds know their commit. In others it would change with
//! every commit, and all would be compiled again.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, short; `unknown` in a debug build and where there was no git.
pub const COMMIT: &str = or_unknown(option_env!("REDVIGIL_COMMIT"));

/// The day of the commit, `2026-01-31`. It stands for the day of the build, so that one commit always gives
/// the same binary.
pub const DATE: &str = or_unknown(option_env!("REDVIGIL_DATE"));

/// The version of the compiler.
pub const RUSTC: &str = or_unknown(option_env!("REDVIGIL_RUSTC"));

/// What `--version` prints, without the line end.
pub fn line() -> String {
    use std::env::consts::{ARCH, OS};
    format!("redvigil {VERSION} (commit {COMMIT}, date {DATE}, rustc {RUSTC}, {OS}/{ARCH})")
}

const fn or_unknown(text: Option<&'static str>) -> &'static str {
    match text {
        Some(text) => text,
        None => "unknown",
    }
}
