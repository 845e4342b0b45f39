//! The binary: arguments in, exit code out. Everything else is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    walrs::cli::main(std::env::args_os().collect())
}
