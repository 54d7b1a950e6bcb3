//! The `collector` command.

use std::process::ExitCode;

use collector::cli::{Cli, run};

fn main() -> ExitCode {
    weir_settings::start::<Cli>().map_or_else(|code| code, run)
}
