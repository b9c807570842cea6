//! The client's side of one SMTP connection, from banner to QUIT. Decides what to say and what each
//! reply means; never touches a socket, never chooses the next message.
//!
//! Commands go out in groups when the peer offers PIPELINING (RFC 2920), and the next transaction's
//! MAIL, RCPT and DATA ride behind the final dot of the one before. Replies are matched in order.

mod dialogue;
mod flight;
#[cfg(test)]
mod tests;
mod wire;

pub use dialogue::{Action, Config, Dialogue, EightBit, Outcomes, Segments, Timeouts, Transaction};
pub use wire::Extensions;
