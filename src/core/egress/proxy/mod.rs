//! How a proxy is asked for a connection: SOCKS5 as a machine, the PROXY protocol as a header.
//! Nothing here opens a socket or waits.

pub mod haproxy;
pub mod socks5;
