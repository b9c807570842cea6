//! What each feature promises, over real sockets.

mod http;
mod open_loop;
mod peer;
mod protocol;
mod report;
