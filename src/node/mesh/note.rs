//! The notes themselves and the way to each shard.

use std::sync::Arc;

use posthaste_core::dispatch::{News, Shapes, Work};
use posthaste_core::shaping::limit::LimitId;
use posthaste_core::words::{Recovered, ShardId};

use super::Ask;
use crate::rt::{Inbox, Post, inbox};

/// Notes under way to one shard. The spool's answers are bounded by what a shard has asked of it,
/// so this is room for all sessions at once.
const NOTES_MAX: usize = 64 * 1024;

/// `D` is what the spool tells.
#[derive(Debug)]
pub enum Note<D> {
    Disk(D),
    /// From another shard: this is where its lane lives.
    Work(Work),
    /// Found at start.
    Recovered(Vec<Recovered>),
    Ask(Ask),
    /// A limit has a place again.
    Freed(LimitId),
    /// What another shard has found out about sources.
    News(Arc<News>),
    /// Other shaping holds from now on.
    Shaping(Arc<Shapes>),
    /// Recovery is over: accept connections.
    Open,
    /// Finish what is in flight and end.
    Shutdown,
}

/// The way to every shard of the node.
#[derive(Debug)]
pub struct Mesh<D> {
    posts: Vec<Post<Note<D>>>,
}

impl<D> Clone for Mesh<D> {
    fn clone(&self) -> Self {
        Self {
            posts: self.posts.clone(),
        }
    }
}

/// A mesh of `shards`, and each shard's end of it.
pub fn mesh<D>(shards: u16) -> (Mesh<D>, Vec<Inbox<Note<D>>>) {
    let (posts, inboxes) = (0..shards).map(|_| inbox(NOTES_MAX)).unzip();
    (Mesh { posts }, inboxes)
}

impl<D> Mesh<D> {
    pub const fn shards(&self) -> usize {
        self.posts.len()
    }

    /// # Panics
    /// When there is no such shard.
    pub fn to(&self, shard: ShardId) -> &Post<Note<D>> {
        &self.posts[usize::from(shard.0)]
    }

    pub fn all(&self) -> impl Iterator<Item = &Post<Note<D>>> {
        self.posts.iter()
    }
}
