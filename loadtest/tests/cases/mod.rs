//! What each feature promises, over real sockets.

mod http;
mod open_loop;
mod peer;
mod pipelining;
mod protocol;
mod report;
mod threads;
