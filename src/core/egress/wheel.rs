//! Smooth weighted round robin: in each stretch of turns everybody has close to their share.

/// Turns are counted in parts of a weight, so that a weight may be scaled down without being lost.
pub(super) const WEIGHT_ONE: u32 = 1000;

/// Credits of the members of one pool at one site.
#[derive(Clone, Debug, Default)]
pub(super) struct Wheel {
    credits: Vec<i64>,
}

impl Wheel {
    /// Turned on by `start` turns: so shards that begin together do not all choose the same.
    pub(super) fn new(weights: &[u32], start: u16) -> Self {
        let mut wheel = Self {
            credits: vec![0; weights.len()],
        };
        for _ in 0..usize::from(start) % weights.len().max(1) {
            if let Some(next) = wheel.next(weights) {
                wheel.turn(weights, next);
            }
        }
        wheel
    }

    /// Who is next; zero weights sit the turn out, and keep what they have.
    pub(super) fn next(&self, weights: &[u32]) -> Option<usize> {
        let entitled = weights.iter().enumerate().filter(|(_, w)| **w > 0);
        entitled
            .map(|(index, weight)| (index, self.credits[index] + i64::from(*weight)))
            // The first of equals.
            .max_by_key(|(index, credit)| (*credit, core::cmp::Reverse(*index)))
            .map(|(index, _)| index)
    }

    /// It was the turn of `chosen`, among those weights.
    pub(super) fn turn(&mut self, weights: &[u32], chosen: usize) {
        let total: i64 = weights.iter().map(|w| i64::from(*w)).sum();
        for (credit, weight) in self.credits.iter_mut().zip(weights) {
            if *weight > 0 {
                *credit += i64::from(*weight);
            }
        }
        self.credits[chosen] -= total;
        // Weights that change, or members that come and go, leave credits behind; nobody may
        // collect more than a round of them.
        for credit in &mut self.credits {
            *credit = (*credit).clamp(-total, total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(wheel: &mut Wheel, weights: &[u32], count: usize) -> Vec<usize> {
        let turn = |_| {
            let next = wheel.next(weights).unwrap();
            wheel.turn(weights, next);
            next
        };
        (0..count).map(turn).collect()
    }

    #[test]
    fn turns_are_spread_and_not_bunched() {
        let mut wheel = Wheel::new(&[5, 1, 1], 0);
        let order = turns(&mut wheel, &[5, 1, 1], 7);
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn every_stretch_holds_the_shares_for_ever() {
        let weights = [7, 3, 11, 1];
        let total = weights.iter().sum::<u32>() as f64;
        let mut wheel = Wheel::new(&weights, 0);
        let order = turns(&mut wheel, &weights, 22_000);
        for (member, weight) in weights.iter().enumerate() {
            let mut count = 0.0;
            for (n, chosen) in order.iter().enumerate() {
                count += f64::from(u8::from(*chosen == member));
                let due = (n + 1) as f64 * f64::from(*weight) / total;
                assert!(
                    (count - due).abs() < 2.0,
                    "{member} at {n}: {count} of {due}"
                );
            }
        }
    }

    #[test]
    fn shards_that_begin_together_choose_differently() {
        let weights = [1, 1, 1, 1];
        let first: Vec<_> = (0..4)
            .map(|shard| turns(&mut Wheel::new(&weights, shard), &weights, 1)[0])
            .collect();
        assert_eq!(first, [0, 1, 2, 3]);
    }

    #[test]
    fn credits_of_large_weights_do_not_outlast_them() {
        let mut wheel = Wheel::new(&[1000, 1000], 0);
        turns(&mut wheel, &[1000, 1000], 1);
        let order = turns(&mut wheel, &[1, 1], 10);
        assert!(order.iter().filter(|m| **m == 0).count() >= 4, "{order:?}");
    }
}
