//! Messages as RFC 5322 sees them: trace fields, header scan, reports. Never touches the envelope protocol.

mod noted;
mod report;
mod report_text;
mod scan;
mod trace;

pub use noted::Noted;
pub use report::{Kind, Reporter, Told, report};
pub use scan::{Field, Fields, fields, header_end, received_count, remove_fields};
pub use trace::{Trace, received_field};
