//! Ways through the node over loopback, with real peers where peers matter.

mod attempts;
mod chains;
mod client;
mod control;
mod cuts;
mod dns;
mod doctor;
mod hostile;
mod limits;
mod node;
mod nsd;
mod operator;
mod passage;
mod peer;
mod proxies;
mod proxy;
mod recipients;
mod records;
mod reports;
mod restart;
mod routing;
mod shaping;
mod shutdown;
mod startup;
mod wait;
