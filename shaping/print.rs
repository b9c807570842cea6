//! Prints what in this folder is printed: `-- default`, `-- schema` or `-- readme`.

use posthaste_core::shaping::{print_default, print_readme, print_schema};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "it prints")]
fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("default") => print!("{}", print_default()),
        Some("schema") => print!("{}", print_schema()),
        Some("readme") => print!("{}", print_readme()),
        _ => {
            eprintln!("default, schema or readme");
            std::process::exit(64);
        }
    }
}
