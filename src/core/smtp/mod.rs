//! Both sides of the SMTP dialogue as machines without sockets.

pub mod client;
pub mod command;
pub mod data;
pub mod reply_parser;
pub mod server;
#[cfg(test)]
mod server_bounds_tests;
mod server_interface;
#[cfg(test)]
mod server_tests;
