//! Who may send what: decides by client network, never by content.

mod policy;

pub use policy::{Admission, ConnectionLimits};
