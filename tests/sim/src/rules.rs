//! The limits of a run, and judges of whether they are kept.

use std::sync::Arc;

use posthaste_core::dispatch::Shapes;
use posthaste_core::shaping::{File, Layer, Shaping};
use posthaste_core::words::{Labels, Moment};

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
    /// Mail is of several tenants; the first has this rate to all sites together.
    pub(crate) tenant_rate: Option<(u64, u64)>,
    /// What that tenant has used.
    pub(crate) tenant_messages: Meter,
}

/// Tenants of a run; mail of the last may leave in the second half of each hour, and one message of
/// the one before at once.
const TENANTS: [&str; 3] = ["rated", "single", "late"];
/// Of each tenant, the default one included.
pub(crate) const CAMPAIGNS: usize = 3;

impl Rules {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        Self {
            connections_max: rng.pick(&[1, 2, 3, 8]),
            per_connection_max: rng.pick(&[1, 3, 100]),
            recipients_max: rng.pick(&[1, 2, 100]),
            rate: rng.pick(&[None, None, Some((60, 1)), Some((30, 5)), Some((600, 10))]),
            connection_rate: rng.pick(&[None, None, Some(60)]),
            tenant_rate: rng.pick(&[None, Some((60, 1)), Some((20, 5))]),
            tenant_messages: Meter::default(),
        }
    }

    /// Whose the next message is.
    pub(crate) fn labels(&self, rng: &mut Rng) -> Labels {
        if self.tenant_rate.is_none() {
            return Labels::default();
        }
        let tenant = rng.pick(&[None, Some(TENANTS[0]), Some(TENANTS[1]), Some(TENANTS[2])]);
        let campaign = rng.pick(&[None, Some("a"), Some("b")]);
        Labels::new(tenant, campaign, None)
    }

    /// What a transaction of `labels` must keep to, beside what its site says. `others`: transactions
    /// of the same tenant under way beside it. `late`: as of [`Meter::count`].
    pub(crate) fn judge(&mut self, labels: &Labels, others: usize, late: u64, now: Moment) {
        match (labels.tenant(), self.tenant_rate) {
            (Some(tenant), Some(rate)) if tenant == TENANTS[0] => {
                self.tenant_messages.count(rate, late, now);
            }
            (Some(tenant), _) if tenant == TENANTS[1] => {
                assert_eq!(others, 0, "transactions of one tenant at once");
            }
            (Some(tenant), _) if tenant == TENANTS[2] => {
                assert!(now.as_secs() / 1800 % 2 == 1, "it left before its time");
            }
            _ => {}
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
        if let Some((count, burst)) = self.tenant_rate {
            let windows = (0..24).map(|hour| {
                let end = (hour + 1) % 24;
                format!("{{ timezone = \"UTC\", from = \"{hour:02}:30\", to = \"{end:02}:00\" }}")
            });
            let windows = windows.collect::<Vec<_>>().join(", ");
            text += &format!(
                "[tenant.{}]\nmax_message_rate = \"{count}/min,max_burst={burst}\"\n\
                 [tenant.{}]\nconnection_limit = 1\nweight = 2\n\
                 [tenant.{}]\ndelivery_window = [{windows}]\n",
                TENANTS[0], TENANTS[1], TENANTS[2]
            );
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
    /// `late`: permits that may be used beside the next one, because no connection was ready when their
    /// turn came.
    pub(crate) fn count(&mut self, (per_minute, burst): (u64, u64), late: u64, now: Moment) {
        let each = 60_000_000 / per_minute;
        let now = now.as_micros();
        self.used_until = self.used_until.max(now) + each;
        let ahead = self.used_until - now;
        let room = (burst + late) * each + 1;
        assert!(ahead <= room, "{ahead} us are used up, {room} at most");
    }
}
