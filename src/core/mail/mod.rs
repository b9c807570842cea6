//! Messages as RFC 5322 sees them: trace fields, header scan, reports. Never touches the envelope protocol.
