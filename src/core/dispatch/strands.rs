//! The ready work of one lane, by whose it is: a strand for each tenant's campaign. Strands that may
//! not send are set aside and hold up nobody; among the others, tenants take turns.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::curb::Turn;
use super::table::Table;
use super::terms::StrandTerms;
use crate::queue::{EntryId, LabelId, Ready};
use crate::shaping::limit::Fair;
use crate::words::Moment;

/// Strands without work that are remembered, so that a lane of few labels does not make them anew for
/// each message.
const BARE_STRANDS_MAX: usize = 4;
/// Its number among the tenants of a lane.
const DEFAULT_TENANT: u32 = 0;

/// Ready work of one label.
#[derive(Debug)]
pub(super) struct Strand {
    pub(super) labels: LabelId,
    /// Of the label's number: it may be another's by now.
    serial: u32,
    tenant: u32,
    ready: Ready,
    /// Of `ready`, those that hold their message.
    held: usize,
    /// Loaded, next to go.
    staged: Ready,
    /// Whether a retry goes next.
    retry_next: bool,
    pub(super) turn: Turn,
    /// `None` where nothing is said of its labels.
    pub(super) terms: Option<Arc<StrandTerms>>,
    is_aside: bool,
}

impl Strand {
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.staged.len()
    }

    fn is_bare(&self) -> bool {
        self.len() == 0 && matches!(self.turn, Turn::Free)
    }

    fn oldest(&self) -> Moment {
        self.ready.oldest().min(self.staged.oldest())
    }

    fn has_at_hand(&self) -> bool {
        self.held > 0 || !self.staged.is_empty()
    }

    fn has_unloaded(&self) -> bool {
        self.ready.len() > self.held
    }

    /// What holds it back, though its lane may go.
    pub(super) fn waits_for(&self) -> Option<String> {
        let closed = self.terms.as_ref().and_then(|terms| terms.closed.as_ref());
        match (&self.turn, closed) {
            (_, Some(closed)) => Some(closed.to_string()),
            (Turn::Waits(limit), None) => Some(limit.name.to_string()),
            (Turn::Free | Turn::Has(_), None) => None,
        }
    }

    /// Whether others go before it, whatever they have: it stands in a line, or is closed.
    pub(super) const fn is_aside(&self) -> bool {
        self.is_aside
    }

    /// Whether it may send nothing at all at this time.
    pub(super) fn is_closed(&self) -> bool {
        self.terms
            .as_ref()
            .is_some_and(|terms| terms.closed.is_some())
    }
}

/// Entries that may go.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    ready: usize,
    staged: usize,
    held: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Strands {
    table: Table<Strand>,
    /// Sorted.
    by_labels: Vec<(LabelId, u32)>,
    /// Tenants with a name, and how many strands each has. Theirs are the numbers above that of the
    /// default tenant.
    tenants: Table<(Box<str>, u32)>,
    by_tenant: BTreeMap<Box<str>, u32>,
    /// Those with work at hand.
    sending: Fair,
    /// Those with work to be loaded.
    loading: Fair,
    may_go: Tally,
    /// Entries of strands that are set aside.
    aside: usize,
    bare: usize,
    /// Strands with a permit in hand.
    granted: Vec<u32>,
    /// No entry was accepted before. A bound, as in [`Ready::oldest`].
    oldest: Moment,
    /// The same of those set aside.
    oldest_aside: Moment,
    /// Where the next window begins.
    sweeping: u32,
    /// Its work goes on to other lanes, with its message or without: all of it takes turns alike.
    is_gate: bool,
}

impl Default for Strands {
    fn default() -> Self {
        Self {
            table: Table::default(),
            by_labels: Vec::new(),
            tenants: Table::default(),
            by_tenant: BTreeMap::new(),
            sending: Fair::default(),
            loading: Fair::default(),
            may_go: Tally::default(),
            aside: 0,
            bare: 0,
            granted: Vec::new(),
            oldest: Moment::NEVER,
            oldest_aside: Moment::NEVER,
            sweeping: 0,
            is_gate: false,
        }
    }
}

impl Strands {
    pub(super) fn of_gate() -> Self {
        Self {
            is_gate: true,
            ..Self::default()
        }
    }

    /// The strand of a label, if it is there and still that label's.
    pub(super) fn find(&self, labels: LabelId, serial: u32) -> Option<u32> {
        let (_, index) = self.by_labels[self.place_of(labels).ok()?];
        (self.table[index].serial == serial).then_some(index)
    }

    fn place_of(&self, labels: LabelId) -> Result<usize, usize> {
        self.by_labels
            .binary_search_by_key(&labels, |(labels, _)| *labels)
    }

    /// A new strand. One that was there for this number was another label's, and has no work; if it
    /// stands in a line it ends when its turn comes.
    pub(super) fn add(&mut self, labels: LabelId, serial: u32, tenant: Option<&str>) -> u32 {
        if let Ok(place) = self.place_of(labels) {
            let (_, old) = self.by_labels.remove(place);
            self.forget_if_many(old);
        }
        let tenant = tenant.map_or(DEFAULT_TENANT, |name| self.tenant_number(name));
        let index = self.table.insert(Strand {
            labels,
            serial,
            tenant,
            ready: Ready::default(),
            held: 0,
            staged: Ready::default(),
            retry_next: false,
            turn: Turn::Free,
            terms: None,
            is_aside: false,
        });
        let place = self.place_of(labels).unwrap_or_else(|place| place);
        self.by_labels.insert(place, (labels, index));
        self.bare += 1;
        self.weigh(index, 1);
        index
    }

    fn tenant_number(&mut self, name: &str) -> u32 {
        if let Some(index) = self.by_tenant.get(name) {
            self.tenants[*index].1 += 1;
            return DEFAULT_TENANT + 1 + *index;
        }
        let index = self.tenants.insert((name.into(), 1));
        self.by_tenant.insert(name.into(), index);
        DEFAULT_TENANT + 1 + index
    }

    fn leave_tenant(&mut self, number: u32) {
        if number == DEFAULT_TENANT {
            return;
        }
        let index = number - DEFAULT_TENANT - 1;
        self.tenants[index].1 -= 1;
        if self.tenants[index].1 == 0
            && let Some((name, _)) = self.tenants.remove(index)
        {
            self.by_tenant.remove(&name);
        }
    }

    /// The tenant of the strand has this weight from here on.
    pub(super) fn weigh(&mut self, index: u32, weight: u16) {
        let tenant = self.table[index].tenant;
        self.sending.assign(index, tenant, weight);
        self.loading.assign(index, tenant, weight);
    }

    /// Ends a strand without work that stands in no line.
    fn forget(&mut self, index: u32) {
        let strand = self.table.remove(index).expect("it is of this table");
        assert!(strand.is_bare(), "a strand with work is not forgotten");
        self.bare -= 1;
        if let Ok(place) = self.place_of(strand.labels)
            && self.by_labels[place].1 == index
        {
            self.by_labels.remove(place);
        }
        self.sending.leave(index);
        self.loading.leave(index);
        self.leave_tenant(strand.tenant);
    }

    /// Ends the strand if it has nothing to do, and is one of many or no label's any more.
    pub(super) fn forget_if_many(&mut self, index: u32) {
        let Some(strand) = self.table.get(index).filter(|strand| strand.is_bare()) else {
            return;
        };
        let place = self.place_of(strand.labels);
        let is_found = place.is_ok_and(|place| self.by_labels[place].1 == index);
        if self.bare > BARE_STRANDS_MAX || !is_found {
            self.forget(index);
        }
    }

    pub(super) fn get(&self, index: u32) -> Option<&Strand> {
        self.table.get(index)
    }

    /// Its turn and its terms may be changed, not its work.
    pub(super) fn edit(&mut self, index: u32) -> &mut Strand {
        &mut self.table[index]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Strand> {
        self.table.iter()
    }

    pub(super) fn numbers(&self) -> Vec<u32> {
        self.table.numbers()
    }

    /// All entries.
    pub(super) fn len(&self) -> usize {
        self.may_go.ready + self.may_go.staged + self.aside
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries that want to go and may.
    pub(super) fn demand(&self) -> usize {
        self.may_go.ready + self.may_go.staged
    }

    /// Loaded ahead, of those that may go.
    pub(super) fn staged(&self) -> usize {
        self.may_go.staged
    }

    /// Entries that may go and hold their message.
    pub(super) fn at_hand(&self) -> usize {
        self.may_go.staged + self.may_go.held
    }

    pub(super) fn oldest(&self) -> Moment {
        if self.is_empty() {
            Moment::NEVER
        } else {
            self.oldest
        }
    }

    pub(super) fn oldest_aside(&self) -> Moment {
        if self.aside == 0 {
            Moment::NEVER
        } else {
            self.oldest_aside
        }
    }
}

/// Work comes and goes.
impl Strands {
    /// Last of its kind. `is_held`: it holds its message.
    pub(super) fn push(
        &mut self,
        index: u32,
        id: EntryId,
        is_retry: bool,
        is_held: bool,
        accepted: Moment,
    ) {
        self.change(index, |strand| {
            strand.ready.push(id, is_retry, is_held, accepted);
            strand.held += usize::from(is_held);
        });
        self.note(index, accepted);
    }

    /// First of its kind, without its message.
    pub(super) fn push_front(&mut self, index: u32, id: EntryId, is_retry: bool, accepted: Moment) {
        self.change(index, |strand| {
            strand.ready.push_front(id, is_retry, false, accepted);
        });
        self.note(index, accepted);
    }

    /// It is loaded: last of those, or first again.
    pub(super) fn stage(
        &mut self,
        index: u32,
        id: EntryId,
        is_retry: bool,
        is_first: bool,
        accepted: Moment,
    ) {
        self.change(index, |strand| {
            if is_first {
                strand.staged.push_front(id, is_retry, true, accepted);
            } else {
                strand.staged.push(id, is_retry, true, accepted);
            }
        });
        self.note(index, accepted);
    }

    /// Of an entry that has just come. What was noted before is void where it is the only one.
    fn note(&mut self, index: u32, accepted: Moment) {
        let with = |before: Moment, is_alone| {
            if is_alone {
                accepted
            } else {
                before.min(accepted)
            }
        };
        self.oldest = with(self.oldest, self.len() == 1);
        if self.table[index].is_aside {
            self.oldest_aside = with(self.oldest_aside, self.aside == 1);
        }
    }

    /// Does something with a strand's work and keeps the accounts of it.
    fn change<T>(&mut self, index: u32, act: impl FnOnce(&mut Strand) -> T) -> T {
        let strand = &mut self.table[index];
        let was_bare = strand.is_bare();
        let before = (strand.ready.len(), strand.staged.len(), strand.held);
        let done = act(strand);
        let after = (strand.ready.len(), strand.staged.len(), strand.held);
        let is_bare = strand.is_bare();
        if strand.is_aside {
            self.aside = self.aside + after.0 + after.1 - before.0 - before.1;
        } else {
            let tally = &mut self.may_go;
            tally.ready = tally.ready + after.0 - before.0;
            tally.staged = tally.staged + after.1 - before.1;
            tally.held = tally.held + after.2 - before.2;
            self.stand(index);
        }
        match (was_bare, is_bare) {
            (true, false) => self.bare -= 1,
            (false, true) => self.bare += 1,
            (true, true) | (false, false) => {}
        }
        done
    }

    /// In the rounds of those that send and load, or out of them.
    fn stand(&mut self, index: u32) {
        let strand = &self.table[index];
        if strand.has_at_hand() || self.is_gate && strand.len() > 0 {
            self.sending.enter(index);
        } else {
            self.sending.leave(index);
        }
        if strand.has_unloaded() && !self.is_gate {
            self.loading.enter(index);
        } else {
            self.loading.leave(index);
        }
    }

    /// A turn of its line, or the hour, has changed.
    pub(super) fn turned(&mut self, index: u32, turn: Turn) -> Turn {
        let strand = &mut self.table[index];
        let was_bare = strand.is_bare();
        let old = core::mem::replace(&mut strand.turn, turn);
        let is_bare = strand.is_bare();
        let has = strand.turn.has();
        match (was_bare, is_bare) {
            (true, false) => self.bare -= 1,
            (false, true) => self.bare += 1,
            (true, true) | (false, false) => {}
        }
        if has {
            self.granted.push(index);
        } else if old.has() {
            self.granted.retain(|granted| *granted != index);
        }
        self.judge(index);
        old
    }

    /// Sets the strand aside, or back among the others, as its turn and its terms say.
    pub(super) fn judge(&mut self, index: u32) {
        let strand = &mut self.table[index];
        let is_aside = strand.turn.waits() || strand.is_closed();
        if is_aside == strand.is_aside {
            return;
        }
        strand.is_aside = is_aside;
        let (ready, staged, held) = (strand.ready.len(), strand.staged.len(), strand.held);
        let oldest = strand.oldest();
        let tally = &mut self.may_go;
        if is_aside {
            tally.ready -= ready;
            tally.staged -= staged;
            tally.held -= held;
            self.oldest_aside = self.oldest_aside().min(oldest);
            self.aside += ready + staged;
            self.sending.leave(index);
            self.loading.leave(index);
        } else {
            tally.ready += ready;
            tally.staged += staged;
            tally.held += held;
            self.aside -= ready + staged;
            self.stand(index);
        }
    }

    /// Strands with a permit in hand.
    pub(super) fn granted(&self) -> &[u32] {
        &self.granted
    }

    /// Whose turn it is, and its next entry that holds its message. Fresh mail and retries take turns
    /// over staged and ready work together: what is loaded ahead must not always go first.
    pub(super) fn take_next(
        &mut self,
        is_held: impl Fn(EntryId) -> bool,
    ) -> Option<(u32, EntryId)> {
        loop {
            let index = self.sending.head()?;
            let taken = self.change(index, |strand| strand.take_next(&is_held));
            match taken {
                Some(id) => return Some((index, id)),
                // What it holds stands behind a head that is to be loaded first.
                None => self.sending.leave(index),
            }
        }
    }

    /// The strand whose turn it was has sent a message.
    pub(super) fn served(&mut self, index: u32) {
        // What `take_next` took may have been its last.
        self.sending.enter(index);
        if self.sending.head() == Some(index) {
            self.sending.served();
        }
        self.stand_or_leave(index);
    }

    fn stand_or_leave(&mut self, index: u32) {
        if self.table[index].is_aside {
            self.sending.leave(index);
            self.loading.leave(index);
        } else {
            self.stand(index);
        }
    }

    /// The next entry to be loaded.
    pub(super) fn take_unloaded(
        &mut self,
        is_unloaded: impl Fn(EntryId) -> bool,
    ) -> Option<EntryId> {
        loop {
            let index = self.loading.head()?;
            let taken = self.change(index, |strand| strand.ready.pop_head_where(&is_unloaded));
            if taken.is_some() {
                self.loading.enter(index);
                self.loading.served();
                self.stand_or_leave(index);
                return taken;
            }
            self.loading.leave(index);
        }
    }

    /// The first in line of a strand that may go, with its message or without; and the strand, which is
    /// to be [`Strands::served`].
    pub(super) fn take_free_head(
        &mut self,
        is_held: impl Fn(EntryId) -> bool,
    ) -> Option<(u32, EntryId)> {
        let index = self.sending.head().or_else(|| self.loading.head())?;
        Some((index, self.take_head(is_held)?))
    }

    /// The first in line of any strand, those that may go first; with its message or without.
    pub(super) fn take_head(&mut self, is_held: impl Fn(EntryId) -> bool) -> Option<EntryId> {
        let mut next = self.sending.head().or_else(|| self.loading.head());
        if next.is_none() && !self.is_empty() {
            let numbers = self.table.numbers().into_iter();
            next = numbers
                .into_iter()
                .find(|index| self.table[*index].len() > 0);
        }
        self.change(next?, |strand| {
            strand.staged.pop().or_else(|| {
                let id = strand.ready.pop()?;
                strand.held -= usize::from(is_held(id));
                Some(id)
            })
        })
    }

    /// The last to come of one kind.
    pub(super) fn last_of(&self, index: u32, is_retry: bool) -> Option<EntryId> {
        self.table.get(index)?.ready.last_of(is_retry)
    }

    /// Takes out what matches near the front of one kind, loaded or not: see [`Ready::take_near`].
    pub(super) fn take_near(
        &mut self,
        index: u32,
        is_retry: bool,
        strangers_max: usize,
        mut matches: impl FnMut(EntryId) -> bool,
        is_held: impl Fn(&EntryId) -> bool,
    ) -> Vec<EntryId> {
        self.change(index, |strand| {
            let mut taken = Vec::new();
            let staged = &mut strand.staged;
            staged.take_near(is_retry, strangers_max, &mut taken, &mut matches);
            let loaded = taken.len();
            let ready = &mut strand.ready;
            ready.take_near(is_retry, strangers_max, &mut taken, &mut matches);
            let held = taken[loaded..].iter().filter(|id| is_held(id));
            strand.held -= held.count();
            taken
        })
    }

    /// Takes out what matches of the next `window` entries, strand by strand. With it, whether all were
    /// looked at since this began from the first.
    pub(super) fn sweep(
        &mut self,
        window: usize,
        look: impl Fn(EntryId) -> (bool, Moment),
        is_held: impl Fn(&EntryId) -> bool,
    ) -> (Vec<EntryId>, bool) {
        let mut taken = Vec::new();
        let mut left = window;
        while self.sweeping < self.table.end() {
            let index = self.sweeping;
            if self.table.get(index).is_none() {
                self.sweeping += 1;
                continue;
            }
            if left == 0 {
                return (taken, false);
            }
            let looked = self.table[index].ready.len().clamp(1, left);
            let is_through = self.change(index, |strand| {
                let (mut some, is_through) = strand.ready.sweep(looked, &look);
                strand.held -= some.iter().filter(|id| is_held(id)).count();
                // Few are loaded ahead.
                let (loaded, _) = strand.staged.sweep(usize::MAX, &look);
                taken.append(&mut some);
                taken.extend(loaded);
                is_through
            });
            left -= looked;
            if !is_through {
                return (taken, false);
            }
            self.sweeping += 1;
        }
        self.sweeping = 0;
        self.recount();
        (taken, true)
    }

    fn recount(&mut self) {
        let oldest = |aside: bool| {
            let strands = self.table.iter().filter(move |s| !aside || s.is_aside);
            strands.map(Strand::oldest).min().unwrap_or(Moment::NEVER)
        };
        (self.oldest, self.oldest_aside) = (oldest(false), oldest(true));
    }

    /// Everything that may hold a message, which the caller takes away; what was loaded ahead is first
    /// in line again.
    pub(super) fn strip(&mut self, accepted: impl Fn(EntryId) -> Moment) -> Vec<EntryId> {
        let numbers = self.table.numbers().into_iter();
        numbers
            .flat_map(|index| self.strip_one(index, &accepted))
            .collect()
    }

    /// The same of one strand.
    pub(super) fn strip_one(
        &mut self,
        index: u32,
        accepted: impl Fn(EntryId) -> Moment,
    ) -> Vec<EntryId> {
        self.change(index, |strand| {
            let mut held = Vec::new();
            for is_retry in [false, true] {
                while let Some(id) = strand.staged.pop_back_from(is_retry) {
                    strand.ready.push_front(id, is_retry, false, accepted(id));
                    held.push(id);
                }
            }
            held.append(&mut strand.ready.strip());
            strand.held = 0;
            held
        })
    }
}

impl Strand {
    fn take_next(&mut self, is_held: impl Fn(EntryId) -> bool) -> Option<EntryId> {
        for is_retry in [self.retry_next, !self.retry_next] {
            let staged = self.staged.pop_from_where(is_retry, |_| true);
            let next = staged.or_else(|| {
                let id = self.ready.pop_from_where(is_retry, &is_held)?;
                self.held -= 1;
                Some(id)
            });
            if next.is_some() {
                self.retry_next = !is_retry;
                return next;
            }
        }
        None
    }
}
