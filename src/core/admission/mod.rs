//! Who may send what: decides by client network, never by content.

mod network;
mod policy;

pub use network::{Network, NotANetwork};
pub use policy::{Admission, ConnectionLimits};
