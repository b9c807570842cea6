//! Labels by small numbers, so that a queued entry says in two octets whose it is.

use std::collections::BTreeMap;

use crate::words::Labels;

/// Different labels at once on one shard. Beyond, mail is counted to its tenant's mail without
/// campaign, then to that of nobody by its pool, and only then to the default; what it carries itself
/// stays as it is.
const LABELS_MAX: usize = u16::MAX as usize;
/// Of these, left for tenants without campaign and for pools, and left for pools alone.
const WIDER_LEFT: usize = 2048;
const POOLS_LEFT: usize = 1024;

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
        let left = match (labels.tenant(), labels.campaign()) {
            (_, Some(_)) => WIDER_LEFT,
            (Some(_), None) => POOLS_LEFT,
            (None, None) => 0,
        };
        if self.by_labels.len() + left >= LABELS_MAX {
            // One word less each time, the default in the end.
            let tenant = labels.tenant().filter(|_| labels.campaign().is_some());
            let pool = labels.pool().filter(|_| left > 0);
            return self.number(&Labels::new(tenant, None, pool));
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u16::try_from(self.slots.len() - 1).expect("labels are bounded")
        });
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
        let mut kept = |labels: &Labels| {
            let id = table.number(labels);
            table.hold(id);
            table.get(id).clone()
        };
        for number in 0..LABELS_MAX {
            kept(&campaign(number));
        }
        let of = |tenant: &str, campaign, pool| Labels::new(Some(tenant), campaign, pool);
        assert_eq!(kept(&campaign(LABELS_MAX)), of("t", None, None));
        let other = of("other", Some("c"), Some("p"));
        assert_eq!(kept(&other), of("other", None, Some("p")));
        for number in 0..LABELS_MAX {
            kept(&of(&number.to_string(), None, None));
        }
        let pool = Labels::new(None, None, Some("q"));
        assert_eq!(kept(&of("stranger", Some("c"), Some("q"))), pool);
        assert_eq!(kept(&of("stranger", Some("c"), None)), Labels::default());
        for number in 0..LABELS_MAX {
            kept(&Labels::new(None, None, Some(&number.to_string())));
        }
        let unknown = Labels::new(None, None, Some("none"));
        assert_eq!(kept(&unknown), Labels::default());
        assert_eq!(table.len(), LABELS_MAX);
    }
}
