//! The `posthaste` binary: a table of contents.

use std::process::ExitCode;

use posthaste::cli::{self, Command, Exit};

fn main() -> ExitCode {
    let exit = match cli::run(std::env::args_os()) {
        Command::Exit(exit) => exit,
        Command::Run(_config) => {
            cli::tell(
                "posthaste: the configuration is good, but this build has no server to run\n",
            );
            Exit::Software
        }
    };
    ExitCode::from(exit as u8)
}
