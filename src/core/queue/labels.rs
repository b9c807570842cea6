//! Labels by small numbers, so that a queued entry says in two octets whose it is.

use std::collections::BTreeMap;

use crate::words::Labels;

/// Different labels at once on one shard. Beyond, mail is counted to its tenant's mail without
/// campaign if that is known, else to the default; what it carries itself stays as it is.
const LABELS_MAX: usize = u16::MAX as usize;

/// A number of [`LabelTable`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelId(u16);

impl LabelId {
    /// Of labels that say nothing.
    pub const DEFAULT: Self = Self(0);
}

#[derive(Debug, Default)]
struct Slot {
    labels: Labels,
    holders: u32,
    /// Grows each time the number is free.
    serial: u32,
}

/// One per shard. Labels have a number as long as somebody holds it.
#[derive(Debug)]
pub struct LabelTable {
    /// The first is of the default, and held by the table.
    slots: Vec<Slot>,
    free: Vec<u16>,
    by_labels: BTreeMap<Labels, u16>,
}

impl Default for LabelTable {
    fn default() -> Self {
        Self {
            slots: vec![Slot::default()],
            free: Vec::new(),
            by_labels: BTreeMap::new(),
        }
    }
}

impl LabelTable {
    /// Held by nobody yet: hold it before another is asked for.
    pub fn number(&mut self, labels: &Labels) -> LabelId {
        if labels.is_default() {
            return LabelId::DEFAULT;
        }
        if let Some(index) = self.by_labels.get(labels) {
            return LabelId(*index);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < LABELS_MAX => {
                self.slots.push(Slot::default());
                u16::try_from(self.slots.len() - 1).expect("slots are bounded")
            }
            None => {
                let wider = Labels::new(labels.tenant(), None, labels.pool());
                let index = self.by_labels.get(&wider);
                return LabelId(index.copied().unwrap_or_default());
            }
        };
        self.slots[usize::from(index)].labels = labels.clone();
        self.by_labels.insert(labels.clone(), index);
        LabelId(index)
    }

    pub fn hold(&mut self, id: LabelId) {
        if id != LabelId::DEFAULT {
            self.slots[usize::from(id.0)].holders += 1;
        }
    }

    pub fn release(&mut self, id: LabelId) {
        if id == LabelId::DEFAULT {
            return;
        }
        let slot = &mut self.slots[usize::from(id.0)];
        slot.holders -= 1;
        if slot.holders == 0 {
            slot.serial = slot.serial.wrapping_add(1);
            self.by_labels.remove(&core::mem::take(&mut slot.labels));
            self.free.push(id.0);
        }
    }

    /// Of a number that is held.
    pub fn get(&self, id: LabelId) -> &Labels {
        &self.slots[usize::from(id.0)].labels
    }

    /// Tells uses of a number from each other, before and after it was free.
    pub fn serial(&self, id: LabelId) -> u32 {
        self.slots[usize::from(id.0)].serial
    }

    /// Those that have a number, but the default.
    pub fn len(&self) -> usize {
        self.by_labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn campaign(number: usize) -> Labels {
        Labels::new(Some("t"), Some(&format!("c{number}")), None)
    }

    #[test]
    fn a_number_lives_as_long_as_it_is_held() {
        let mut table = LabelTable::default();
        assert_eq!(table.number(&Labels::default()), LabelId::DEFAULT);
        let first = table.number(&campaign(1));
        table.hold(first);
        assert_eq!(table.number(&campaign(1)), first);
        table.hold(first);
        table.release(first);
        assert_eq!(table.get(first), &campaign(1));
        let serial = table.serial(first);
        table.release(first);
        assert!(table.is_empty());
        let second = table.number(&campaign(2));
        assert_eq!((second, table.get(second)), (first, &campaign(2)));
        assert_ne!(table.serial(second), serial);
    }

    #[test]
    fn numbers_do_not_run_out() {
        let mut table = LabelTable::default();
        let tenant = Labels::new(Some("t"), None, None);
        for labels in core::iter::once(tenant.clone()).chain((0..LABELS_MAX).map(campaign)) {
            let id = table.number(&labels);
            table.hold(id);
        }
        assert_eq!(table.len(), LABELS_MAX - 1);
        let over = table.number(&campaign(LABELS_MAX));
        assert_eq!(table.get(over), &tenant);
        let stranger = Labels::new(Some("other"), None, None);
        assert_eq!(table.number(&stranger), LabelId::DEFAULT);
    }
}
