//! Who may send what: decides by client network, never by content.
