//! The operator's wish that all work, or that of some, be due: carried out in bounded parts, for
//! there may be a million entries and as many domains.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::vec::IntoIter;

use super::brain::Dispatch;
use super::lane::Wake;
use super::overview::Whose;
use crate::queue::EntryId;
use crate::words::{Domain, Moment};

/// Entries looked at in one go.
const ENTRIES_PER_GO: usize = 4096;
/// Domains looked at in one go: what is ready in each may be looked through too.
const DOMAINS_PER_GO: usize = 256;

/// What is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Domain(Domain),
    /// With the numbers that their domains had.
    Of(Whose, BTreeSet<u32>),
    /// What an operator has ended.
    Ended,
}

/// One per shard.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    current: Option<Flush>,
    /// Each scope once; domains without work here are none.
    waiting: VecDeque<Scope>,
}

#[derive(Debug)]
struct Flush {
    scope: Scope,
    /// The last go.
    at: Moment,
    /// Numbers of domains whose pauses have not ended yet.
    domains: IntoIter<u32>,
    /// What has not been looked at yet.
    entries: IntoIter<Reverse<(Moment, EntryId)>>,
}

impl Flushes {
    /// In the past, or never.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.current.as_ref().map(|flush| flush.at)
    }

    /// Entries that wait for their turn.
    pub(super) fn len(&self) -> usize {
        self.current.as_ref().map_or(0, |flush| flush.entries.len())
    }
}

impl Dispatch {
    /// Operator: all work, or that of one domain, is due now and pauses end. Begins with a part of it;
    /// `poll_timeout` lies in the past while there is more.
    pub fn handle_flush(&mut self, domain: Option<&Domain>, now: Moment) {
        if self.shutting_down {
            return;
        }
        let is_known = |name: &Domain| self.domain_by_name.contains_key(name.as_str());
        if !domain.is_none_or(is_known) {
            return;
        }
        self.flush(domain.cloned().map_or(Scope::All, Scope::Domain), now);
    }

    /// All work of these is due now, and pauses of their domains end.
    pub(super) fn flush_of(&mut self, whose: Whose, domains: BTreeSet<u32>, now: Moment) {
        self.flush(Scope::Of(whose, domains), now);
    }

    /// Brings what waits for its next attempt and has been ended to its end.
    pub(super) fn flush_ended(&mut self, now: Moment) {
        self.flush(Scope::Ended, now);
    }

    fn flush(&mut self, scope: Scope, now: Moment) {
        if !self.flushes.waiting.contains(&scope) {
            self.flushes.waiting.push_back(scope);
        }
        if self.flushes.current.is_none() {
            self.flush_on(now);
        }
    }

    /// The next part, if there is one.
    pub(super) fn flush_on(&mut self, now: Moment) {
        let Some(mut flush) = self.flushes.current.take().or_else(|| self.begin(now)) else {
            return;
        };
        flush.at = now;
        self.flush_domains(&mut flush, now);
        if flush.domains.len() == 0 {
            self.flush_entries(&mut flush, now);
        }
        let is_over = flush.domains.len() + flush.entries.len() == 0;
        self.flushes.current = match is_over {
            true => self.begin(now),
            false => Some(flush),
        };
    }

    fn begin(&mut self, now: Moment) -> Option<Flush> {
        let scope = self.flushes.waiting.pop_front()?;
        let domains: Vec<u32> = match &scope {
            Scope::All => self.domains.numbers(),
            Scope::Domain(name) => {
                let number = self.domain_by_name.get(name.as_str());
                number.copied().into_iter().collect()
            }
            Scope::Of(_, domains) => domains.iter().copied().collect(),
            Scope::Ended => Vec::new(),
        };
        Some(Flush {
            scope,
            at: now,
            domains: domains.into_iter(),
            entries: self.due.take_entries(),
        })
    }

    fn flush_domains(&mut self, flush: &mut Flush, now: Moment) {
        for number in flush.domains.by_ref().take(DOMAINS_PER_GO) {
            if self.domains.get(number).is_some() {
                self.unpause(number, now);
            }
        }
    }

    /// What is not meant is due at its own time again.
    fn flush_entries(&mut self, flush: &mut Flush, now: Moment) {
        // A domain is not forgotten while it has entries, and its number not given to another.
        let only = match &flush.scope {
            Scope::Domain(name) => self.domain_by_name.get(name.as_str()).copied(),
            Scope::All | Scope::Of(..) | Scope::Ended => None,
        };
        for Reverse((due, id)) in flush.entries.by_ref().take(ENTRIES_PER_GO) {
            let entry = self.entries.get(id);
            let is_meant = match &flush.scope {
                Scope::All => true,
                Scope::Domain(_) => only == Some(entry.domain),
                Scope::Of(whose, _) => self.is_entry_of(entry, whose),
                Scope::Ended => self.sentences.has(id),
            };
            if is_meant {
                self.enqueue(id, now);
            } else {
                self.due.push(due, Wake::Entry(id));
            }
        }
    }
}
