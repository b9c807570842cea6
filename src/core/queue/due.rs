//! What waits for its moment: a binary heap, 16 bytes an item.

use core::mem;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::vec::IntoIter;

use crate::words::Moment;

/// Items by due time; items of one moment come in the order of the items themselves.
#[derive(Debug)]
pub struct Due<T: Ord> {
    heap: BinaryHeap<Reverse<(Moment, T)>>,
}

impl<T: Ord> Default for Due<T> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
        }
    }
}

impl<T: Ord + Copy> Due<T> {
    pub fn push(&mut self, due: Moment, item: T) {
        self.heap.push(Reverse((due, item)));
    }

    /// The earliest due time.
    pub fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// The earliest item, if it is due.
    pub fn pop(&mut self, now: Moment) -> Option<T> {
        self.next().filter(|due| *due <= now)?;
        self.heap.pop().map(|Reverse((_, item))| item)
    }

    /// Takes out all items: the earliest first, the others in any order. O(1).
    pub fn take_all(&mut self) -> IntoIter<Reverse<(Moment, T)>> {
        mem::take(&mut self.heap).into_vec().into_iter()
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}
