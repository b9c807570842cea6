//! The `posthaste` binary: a table of contents.

use std::process::ExitCode;

use posthaste::cli::{self, Command, Exit};

fn main() -> ExitCode {
    let exit = match cli::run(std::env::args_os()) {
        Command::Exit(exit) => exit,
        Command::Run(_config) => Exit::Software,
    };
    ExitCode::from(exit as u8)
}
