//! The `redvigil` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    redvigil::cli::main(redvigil::daemon::run)
}
