//! Both sides of the SMTP dialogue as machines without sockets.

pub mod client;
pub mod reply_parser;
