//! Ways through the node over loopback, with real peers where peers matter.

mod dns;
