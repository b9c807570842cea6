//! A report as a table, as JSON and as a shell script.

mod json;
mod script;
mod table;
#[cfg(test)]
mod tests;
mod wrap;

pub use json::json;
pub use script::script;
pub use table::{Look, table};
