//! The `posthaste` binary: a table of contents.

use std::process::ExitCode;

use posthaste::cli::{self, Command, Exit};
use posthaste::server::{self, Broken};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let exit = match cli::run(std::env::args_os()) {
        Command::Exit(exit) => exit,
        Command::Doctor(doctor) => {
            let grounds = server::grounds(doctor.config(), exit_of);
            return ExitCode::from(doctor.run(&grounds));
        }
        Command::Run(config) => match server::run(&config) {
            Ok(()) => Exit::Ok,
            Err(broken) => {
                cli::tell(&format!("posthaste: {broken}\n"));
                exit_of(&broken)
            }
        },
    };
    ExitCode::from(exit as u8)
}

/// As sysexits(3) names them.
const fn exit_of(broken: &Broken) -> Exit {
    match broken {
        Broken::Host(posthaste::rt::Unfit::Uring(_)) | Broken::Signals(_) => Exit::OsError,
        Broken::Host(_)
        | Broken::Wanted(_)
        | Broken::Source { .. }
        | Broken::Shaping(_)
        | Broken::Throttle(_) => Exit::Config,
        Broken::Bind { .. } | Broken::Spool(_) => Exit::Unavailable,
        Broken::Log(_) => Exit::IoError,
        Broken::Control(_) => Exit::OsError,
        Broken::Shard { .. } => Exit::Software,
    }
}
