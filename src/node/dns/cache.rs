//! Answers while they hold. One per shard.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use posthaste_core::route::{Answer, Query};
use posthaste_core::words::Moment;

/// Bounded by its number of entries; what ends soonest goes first.
#[derive(Debug)]
pub(super) struct Cache {
    entries: HashMap<Rc<Query>, (Rc<Answer>, Moment)>,
    ends: BTreeSet<(Moment, Rc<Query>)>,
    entries_max: usize,
}

impl Cache {
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            ends: BTreeSet::new(),
            entries_max,
        }
    }

    /// The answer and the moment until which it holds.
    pub(super) fn find(&self, query: &Query, now: Moment) -> Option<(Rc<Answer>, Moment)> {
        let (answer, until) = self.entries.get(query)?;
        (*until > now).then(|| (Rc::clone(answer), *until))
    }

    pub(super) fn insert(&mut self, query: &Query, answer: Rc<Answer>, until: Moment) {
        let query = Rc::new(query.clone());
        if let Some((_, old)) = self.entries.remove(&query) {
            self.ends.remove(&(old, Rc::clone(&query)));
        }
        while self.entries.len() >= self.entries_max {
            let Some((_, soonest)) = self.ends.pop_first() else {
                return;
            };
            self.entries.remove(&soonest);
        }
        self.ends.insert((until, Rc::clone(&query)));
        self.entries.insert(query, (answer, until));
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use posthaste_core::route::RecordType;
    use posthaste_core::words::Domain;

    use super::*;

    fn query(n: u32) -> Query {
        Query {
            name: Domain::parse(&format!("d{n}.example")).unwrap(),
            kind: RecordType::Mx,
        }
    }

    #[test]
    fn answers_end_with_their_ttl_and_the_soonest_makes_room() {
        let mut cache = Cache::new(2);
        let answer = Rc::new(Answer::failed("x", Duration::ZERO));
        let at = Moment::from_secs;
        cache.insert(&query(1), Rc::clone(&answer), at(10));
        cache.insert(&query(2), Rc::clone(&answer), at(20));
        assert!(cache.find(&query(1), at(9)).is_some());
        assert!(cache.find(&query(1), at(10)).is_none());
        cache.insert(&query(1), Rc::clone(&answer), at(30));
        cache.insert(&query(3), answer, at(40));
        assert_eq!((cache.len(), cache.ends.len()), (2, 2));
        assert!(cache.find(&query(2), at(0)).is_none());
        assert!(cache.find(&query(1), at(0)).is_some());
    }
}
