//! What reaches a shard from outside its core: other shards, the spool, the operator, the end.

mod ask;
mod firings;
mod note;

pub use ask::{Answer, Ask, Question};
pub use firings::Firings;
pub use note::{Mesh, Note, mesh};
