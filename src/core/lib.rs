//! What Posthaste decides: SMTP, queueing, routing and mail itself, without a socket, a disk, a
//! clock or a thread. Machines take events with a [`words::Moment`] and give actions back.

pub mod words;

pub mod admission;
pub mod automation;
pub mod egress;
pub mod mail;
pub mod queue;
pub mod route;
pub mod shaping;
pub mod smtp;

pub mod dispatch;
