//! Who goes first in a lane: deficit round robin between tenants, their queues in turn, and a share
//! for fresh mail against retries. Small handles in one slab: O(1) for each that comes or goes.

use std::collections::BTreeMap;

/// No cell, line or tenant.
const NIL: u32 = u32::MAX;
/// Lines without work that are remembered, so that a lane of few tenants allocates nothing.
const BARE_LINES_MAX: usize = 8;
/// Cells kept when the last handle has left.
const CELLS_KEPT: usize = 1024;

/// Whose a message is: the owner's numbers for the tenant, and for the queue within the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    pub tenant: u32,
    pub queue: u32,
}

/// Whether it was tried before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Fresh,
    Retry,
}

/// Of the turns of a queue where both fresh mail and retries wait, `fresh` of `of` are for fresh
/// mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreshShare {
    fresh: u8,
    of: u8,
}

impl FreshShare {
    /// `None` unless both kinds get a turn.
    pub const fn new(fresh: u8, of: u8) -> Option<Self> {
        if fresh > 0 && fresh < of && of < 128 {
            Some(Self { fresh, of })
        } else {
            None
        }
    }
}

impl Default for FreshShare {
    /// Three of four: a backlog of retries mostly fails again.
    fn default() -> Self {
        Self { fresh: 3, of: 4 }
    }
}

#[derive(Debug)]
struct Cell<T> {
    item: T,
    next: u32,
}

/// A singly linked list through cells, lines or tenants.
#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
}

const EMPTY: List = List {
    head: NIL,
    tail: NIL,
};

impl List {
    const fn is_empty(self) -> bool {
        self.head == NIL
    }
}

/// The work of one label.
#[derive(Debug)]
struct Line {
    label: Label,
    tenant: u32,
    fresh: List,
    retry: List,
    next: u32,
    /// Grows with each turn; whether it reaches `of` says whose turn it is.
    credit: u8,
    in_ring: bool,
    parked: bool,
}

impl Line {
    fn is_bare(&self) -> bool {
        self.fresh.is_empty() && self.retry.is_empty()
    }

    fn list(&mut self, class: Class) -> &mut List {
        match class {
            Class::Fresh => &mut self.fresh,
            Class::Retry => &mut self.retry,
        }
    }

    fn class_next(&self, share: FreshShare) -> Class {
        let is_fresh = match (self.fresh.is_empty(), self.retry.is_empty()) {
            (false, false) => self.credit + share.fresh >= share.of,
            (is_bare, _) => !is_bare,
        };
        if is_fresh { Class::Fresh } else { Class::Retry }
    }

    fn count_turn(&mut self, share: FreshShare) {
        if !self.fresh.is_empty() && !self.retry.is_empty() {
            self.credit = (self.credit + share.fresh) % share.of;
        }
    }
}

#[derive(Debug)]
struct Tenant {
    weight: u16,
    /// Messages left of its turn.
    deficit: u16,
    /// Lines with work that may go.
    ring: List,
    next: u32,
    lines: u32,
    in_ring: bool,
    parked: bool,
}

/// Ready work of one lane, as handles. In each round a tenant may send as many messages as its
/// weight says. A tenant or a queue that waits for a limit of its own is parked and holds up nobody.
///
/// Where some work is in memory and some is not, use two: one decides what is loaded, the other
/// what is sent.
#[derive(Debug)]
pub struct Fair<T> {
    share: FreshShare,
    cells: Vec<Cell<T>>,
    free: u32,
    lines: Slab<Line>,
    line_by_label: BTreeMap<Label, u32>,
    tenants: Slab<Tenant>,
    ring: List,
    len: usize,
    bare_lines: usize,
    /// The line that was pushed to last: mostly the next one too.
    latest: u32,
}

/// Values by small numbers, which are used again.
#[derive(Debug)]
struct Slab<V> {
    values: Vec<V>,
    free: Vec<u32>,
}

impl<V> Slab<V> {
    const fn new() -> Self {
        Self {
            values: Vec::new(),
            free: Vec::new(),
        }
    }

    fn insert(&mut self, value: V) -> u32 {
        if let Some(index) = self.free.pop() {
            self.values[index as usize] = value;
            return index;
        }
        if self.values.is_empty() {
            // Most lanes have one.
            self.values.reserve_exact(1);
        }
        self.values.push(value);
        u32::try_from(self.values.len() - 1).expect("fewer than 4 billion of a lane")
    }

    fn get(&self, index: u32) -> &V {
        &self.values[index as usize]
    }

    fn edit(&mut self, index: u32) -> &mut V {
        &mut self.values[index as usize]
    }
}

impl<T: Copy> Default for Fair<T> {
    fn default() -> Self {
        Self::new(FreshShare::default())
    }
}

impl<T: Copy> Fair<T> {
    pub const fn new(share: FreshShare) -> Self {
        Self {
            share,
            cells: Vec::new(),
            free: NIL,
            lines: Slab::new(),
            line_by_label: BTreeMap::new(),
            tenants: Slab::new(),
            ring: EMPTY,
            len: 0,
            bare_lines: 0,
            latest: NIL,
        }
    }

    /// Last of its label and class. `weight` is the tenant's from here on; zero counts as one.
    pub fn push(&mut self, label: Label, weight: u16, class: Class, item: T) {
        let (line, cell) = self.prepare(label, weight, item);
        let list = self.lines.edit(line).list(class);
        let tail = core::mem::replace(&mut list.tail, cell);
        if tail == NIL {
            list.head = cell;
        } else {
            self.cells[tail as usize].next = cell;
        }
        self.enter(line);
    }

    /// First of its label and class again. What was charged for it is not given back.
    pub fn push_front(&mut self, label: Label, weight: u16, class: Class, item: T) {
        let (line, cell) = self.prepare(label, weight, item);
        let list = self.lines.edit(line).list(class);
        self.cells[cell as usize].next = list.head;
        list.head = cell;
        if list.tail == NIL {
            list.tail = cell;
        }
        self.enter(line);
    }

    fn prepare(&mut self, label: Label, weight: u16, item: T) -> (u32, u32) {
        let line = self.line_of(label);
        if self.lines.get(line).is_bare() {
            self.bare_lines -= 1;
        }
        let tenant = self.lines.get(line).tenant;
        self.tenants.edit(tenant).weight = weight.max(1);
        self.len += 1;
        let cell = Cell { item, next: NIL };
        if self.free == NIL {
            self.cells.push(cell);
            let last = u32::try_from(self.cells.len() - 1);
            return (line, last.expect("fewer than 4 billion handles a lane"));
        }
        let index = self.free;
        let old = core::mem::replace(&mut self.cells[index as usize], cell);
        self.free = old.next;
        (line, index)
    }

    fn line_of(&mut self, label: Label) -> u32 {
        if self.latest != NIL && self.lines.get(self.latest).label == label {
            return self.latest;
        }
        let line = match self.line_by_label.get(&label) {
            Some(line) => *line,
            None => self.add_line(label),
        };
        self.latest = line;
        line
    }

    fn add_line(&mut self, label: Label) -> u32 {
        let tenant = match self.line_of_tenant(label.tenant) {
            Some(line) => self.lines.get(line).tenant,
            None => self.tenants.insert(Tenant {
                weight: 1,
                deficit: 0,
                ring: EMPTY,
                next: NIL,
                lines: 0,
                in_ring: false,
                parked: false,
            }),
        };
        self.tenants.edit(tenant).lines += 1;
        let line = self.lines.insert(Line {
            label,
            tenant,
            fresh: EMPTY,
            retry: EMPTY,
            next: NIL,
            credit: self.share.of - self.share.fresh,
            in_ring: false,
            parked: false,
        });
        self.bare_lines += 1;
        self.line_by_label.insert(label, line);
        line
    }

    fn line_of_tenant(&self, tenant: u32) -> Option<u32> {
        let first = Label { tenant, queue: 0 };
        let last = Label {
            tenant,
            queue: u32::MAX,
        };
        self.line_by_label
            .range(first..=last)
            .next()
            .map(|(_, l)| *l)
    }

    /// Puts a line with work where its turn will come, and its tenant too.
    fn enter(&mut self, index: u32) {
        let line = self.lines.edit(index);
        if line.parked || line.is_bare() {
            return;
        }
        let tenant = line.tenant;
        if !line.in_ring {
            line.in_ring = true;
            line.next = NIL;
            let ring = &mut self.tenants.edit(tenant).ring;
            let tail = core::mem::replace(&mut ring.tail, index);
            if tail == NIL {
                ring.head = index;
            } else {
                self.lines.edit(tail).next = index;
            }
        }
        self.enter_tenant(tenant);
    }

    fn enter_tenant(&mut self, index: u32) {
        let tenant = self.tenants.edit(index);
        if tenant.in_ring || tenant.parked || tenant.ring.is_empty() {
            return;
        }
        tenant.in_ring = true;
        tenant.next = NIL;
        let tail = core::mem::replace(&mut self.ring.tail, index);
        if tail == NIL {
            self.ring.head = index;
        } else {
            self.tenants.edit(tail).next = index;
        }
    }

    fn leave_head_tenant(&mut self) -> u32 {
        let index = self.ring.head;
        let tenant = self.tenants.edit(index);
        tenant.in_ring = false;
        tenant.deficit = 0;
        self.ring.head = tenant.next;
        if self.ring.head == NIL {
            self.ring.tail = NIL;
        }
        index
    }

    fn leave_head_line(&mut self, tenant: u32) -> u32 {
        let index = self.tenants.get(tenant).ring.head;
        let line = self.lines.edit(index);
        line.in_ring = false;
        let next = line.next;
        let ring = &mut self.tenants.edit(tenant).ring;
        ring.head = next;
        if next == NIL {
            ring.tail = NIL;
        }
        index
    }

    /// The line that goes next. What was parked or emptied since leaves the rings here, each once.
    fn head_line(&mut self) -> Option<u32> {
        while self.ring.head != NIL {
            let index = self.ring.head;
            let tenant = self.tenants.get(index);
            let line = tenant.ring.head;
            if tenant.parked || line == NIL {
                self.leave_head_tenant();
                continue;
            }
            let state = self.lines.get(line);
            if !state.parked && !state.is_bare() {
                return Some(line);
            }
            self.leave_head_line(index);
            if self.tenants.get(index).ring.is_empty() {
                self.leave_head_tenant();
            }
            self.forget_if_many(line);
        }
        None
    }

    /// What `pop` would give.
    pub fn peek(&mut self) -> Option<(Label, Class, T)> {
        let line = self.head_line()?;
        let line = self.lines.get(line);
        let class = line.class_next(self.share);
        let head = match class {
            Class::Fresh => line.fresh.head,
            Class::Retry => line.retry.head,
        };
        Some((line.label, class, self.cells[head as usize].item))
    }

    /// The next one, taken out.
    pub fn pop(&mut self) -> Option<(Label, Class, T)> {
        let index = self.head_line()?;
        let share = self.share;
        let line = self.lines.edit(index);
        let (label, tenant) = (line.label, line.tenant);
        let class = line.class_next(share);
        line.count_turn(share);
        let item = self.take_head(index, class)?;
        self.leave_head_line(tenant);
        self.enter(index);
        let state = self.tenants.edit(tenant);
        if state.deficit == 0 {
            state.deficit = state.weight;
        }
        state.deficit -= 1;
        if state.deficit == 0 || state.ring.is_empty() {
            self.leave_head_tenant();
            self.enter_tenant(tenant);
        }
        self.forget_if_many(index);
        Some((label, class, item))
    }

    /// Takes the head of a list of a line; counts, but leaves the rings alone.
    fn take_head(&mut self, line: u32, class: Class) -> Option<T> {
        let list = self.lines.edit(line).list(class);
        let index = list.head;
        if index == NIL {
            return None;
        }
        let cell = &mut self.cells[index as usize];
        list.head = core::mem::replace(&mut cell.next, self.free);
        if list.head == NIL {
            list.tail = NIL;
        }
        let item = cell.item;
        self.free = index;
        self.len -= 1;
        if self.lines.get(line).is_bare() {
            self.bare_lines += 1;
        }
        if self.len == 0 && self.cells.len() > CELLS_KEPT {
            self.cells = Vec::new();
            self.free = NIL;
        }
        Some(item)
    }

    /// A bare line outside the rings ends, unless it is one of few: mostly it will be asked for
    /// again.
    fn forget_if_many(&mut self, index: u32) {
        let line = self.lines.get(index);
        let is_needed = !line.is_bare() || line.in_ring || line.parked;
        if self.bare_lines <= BARE_LINES_MAX || is_needed {
            return;
        }
        let tenant = line.tenant;
        let state = self.tenants.edit(tenant);
        if state.lines == 1 && (state.in_ring || state.parked) {
            return;
        }
        state.lines -= 1;
        if state.lines == 0 {
            self.tenants.free.push(tenant);
        }
        self.line_by_label.remove(&line.label);
        self.lines.free.push(index);
        self.bare_lines -= 1;
        self.latest = NIL;
    }

    /// Sets a tenant aside until `resume_tenant`; work that comes for it waits too.
    pub fn park_tenant(&mut self, tenant: u32) {
        if let Some(line) = self.line_of_tenant(tenant) {
            let tenant = self.lines.get(line).tenant;
            self.tenants.edit(tenant).parked = true;
        }
    }

    /// Last in the round.
    pub fn resume_tenant(&mut self, tenant: u32) {
        if let Some(line) = self.line_of_tenant(tenant) {
            let tenant = self.lines.get(line).tenant;
            self.tenants.edit(tenant).parked = false;
            self.enter_tenant(tenant);
            self.forget_if_many(line);
        }
    }

    /// Sets one queue of a tenant aside until `resume_queue`.
    pub fn park_queue(&mut self, label: Label) {
        if let Some(line) = self.line_by_label.get(&label) {
            self.lines.edit(*line).parked = true;
        }
    }

    pub fn resume_queue(&mut self, label: Label) {
        if let Some(line) = self.line_by_label.get(&label).copied() {
            self.lines.edit(line).parked = false;
            self.enter(line);
            self.forget_if_many(line);
        }
    }

    /// Takes out the heads that match, parked or not, at most `max`. The first of a list is its
    /// oldest, so this finds what has expired. O(labels + taken).
    pub fn take_heads_where(&mut self, mut matches: impl FnMut(T) -> bool, max: usize) -> Vec<T> {
        let mut taken = Vec::new();
        for line in self.line_by_label.values().copied().collect::<Vec<_>>() {
            for class in [Class::Fresh, Class::Retry] {
                loop {
                    let head = self.lines.edit(line).list(class).head;
                    let is_match = head != NIL && matches(self.cells[head as usize].item);
                    if !is_match || taken.len() >= max {
                        break;
                    }
                    taken.extend(self.take_head(line, class));
                }
            }
        }
        taken
    }

    /// Takes out all work of a label, oldest first, fresh before retries.
    pub fn take_queue(&mut self, label: Label) -> Vec<(Class, T)> {
        let mut taken = Vec::new();
        if let Some(line) = self.line_by_label.get(&label).copied() {
            for class in [Class::Fresh, Class::Retry] {
                while let Some(item) = self.take_head(line, class) {
                    taken.push((class, item));
                }
            }
        }
        taken
    }

    /// Takes out everything, by label, oldest first. What is parked stays parked.
    pub fn take_all(&mut self) -> Vec<(Label, Class, T)> {
        let mut all = Vec::with_capacity(self.len);
        for label in self.line_by_label.keys().copied().collect::<Vec<_>>() {
            let items = self.take_queue(label).into_iter();
            all.extend(items.map(|(class, item)| (label, class, item)));
        }
        all
    }

    /// Labels that have work, parked ones too.
    pub fn labels(&self) -> impl Iterator<Item = Label> {
        let lines = self.line_by_label.iter();
        lines
            .filter(|(_, line)| !self.lines.get(**line).is_bare())
            .map(|(label, _)| *label)
    }

    #[cfg(test)]
    pub(super) fn line_count(&self) -> usize {
        self.line_by_label.len()
    }

    /// Parked work included.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Octets of memory behind this value.
    pub fn octets(&self) -> usize {
        self.cells.capacity() * size_of::<Cell<T>>()
            + self.lines.values.capacity() * size_of::<Line>()
            + self.tenants.values.capacity() * size_of::<Tenant>()
            // A B-tree keeps its nodes half full at least.
            + self.line_by_label.len() * 2 * (size_of::<Label>() + size_of::<u32>())
    }
}
