//! The limits of a run, and judges of whether they are kept.

use std::sync::Arc;

use posthaste_core::dispatch::Shapes;
use posthaste_core::shaping::{File, Layer, Shaping};
use posthaste_core::words::Moment;

use crate::rng::Rng;

/// What shaping says of all sites of a run.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) connections_max: usize,
    per_connection_max: u32,
    recipients_max: u32,
    /// Messages a minute, and how many of them at once.
    pub(crate) rate: Option<(u64, u64)>,
    /// New connections a minute.
    pub(crate) connection_rate: Option<u64>,
}

impl Rules {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        Self {
            connections_max: rng.pick(&[1, 2, 3, 8]),
            per_connection_max: rng.pick(&[1, 3, 100]),
            recipients_max: rng.pick(&[1, 2, 100]),
            rate: rng.pick(&[None, None, Some((60, 1)), Some((30, 5)), Some((600, 10))]),
            connection_rate: rng.pick(&[None, None, Some(60)]),
        }
    }

    pub(crate) fn shapes(&self) -> Shapes {
        let mut text = format!(
            "[\"default\"]\nconnection_limit = {}\nmax_deliveries_per_connection = {}\n\
             max_recipients_per_batch = {}\n",
            self.connections_max, self.per_connection_max, self.recipients_max
        );
        if let Some((count, burst)) = self.rate {
            text += &format!("max_message_rate = \"{count}/min,max_burst={burst}\"\n");
        }
        if let Some(count) = self.connection_rate {
            text += &format!("max_connection_rate = \"{count}/min,max_burst=1\"\n");
        }
        let file = File {
            name: "sim.toml",
            text: &text,
            layer: Layer::Operator,
        };
        Shapes {
            shaping: Arc::new(Shaping::read(&[file]).expect("well formed")),
            ..Shapes::default()
        }
    }
}

/// Counts what goes to a site, by what the rate says and nothing of ours.
#[derive(Clone, Copy, Default)]
pub(crate) struct Meter {
    /// Microseconds of the rate that are used up, seen from the start.
    used_until: u64,
}

impl Meter {
    /// A shard whose connection was not ready when its turn came may be late by one; others keep
    /// the turns they were given meanwhile.
    pub(crate) fn count(&mut self, (per_minute, burst): (u64, u64), shards: u16, now: Moment) {
        let each = 60_000_000 / per_minute;
        let now = now.as_micros();
        self.used_until = self.used_until.max(now) + each;
        let ahead = self.used_until - now;
        let late = u64::from(shards - 1);
        let room = (burst + late) * each + 1;
        assert!(ahead <= room, "{ahead} us are used up, {room} at most");
    }
}
