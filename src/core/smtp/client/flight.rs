//! One transaction on its way: who was asked for, who was accepted, what is settled.

use smallvec::SmallVec;

use super::dialogue::{Outcomes, Transaction};
use crate::words::{Cause, Enhanced, Outcome, Reply, Stage};

#[derive(Debug)]
enum Fate {
    Asked,
    Accepted,
    Settled(Outcome),
}

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) transaction: Transaction,
    /// Recipients RCPT goes out for, in order.
    asked: SmallVec<[(u16, Fate); 1]>,
    /// Refused by ourselves before anything went out.
    local: Outcomes,
    /// How many of `asked` have had their RCPT sent (without PIPELINING) and answered.
    pub(super) sent: usize,
    answered: usize,
    /// The peer answered something to this transaction.
    pub(super) touched: bool,
    pub(super) mail_accepted: bool,
    pub(super) utf8: bool,
}

impl Flight {
    pub(super) fn new(
        transaction: Transaction,
        asked: &[u16],
        local: Outcomes,
        utf8: bool,
    ) -> Self {
        Self {
            transaction,
            asked: asked.iter().map(|index| (*index, Fate::Asked)).collect(),
            local,
            sent: 0,
            answered: 0,
            touched: false,
            mail_accepted: false,
            utf8,
        }
    }

    pub(super) fn asked(&self) -> impl Iterator<Item = u16> {
        self.asked.iter().map(|(index, _)| *index)
    }

    pub(super) fn is_any_accepted(&self) -> bool {
        self.asked
            .iter()
            .any(|(_, fate)| matches!(fate, Fate::Accepted))
    }

    pub(super) fn take_rcpt_reply(&mut self, reply: Reply) {
        let Some((_, fate)) = self.asked.get_mut(self.answered) else {
            return;
        };
        self.answered += 1;
        // A refused MAIL has settled it before.
        if matches!(fate, Fate::Asked) {
            *fate = if reply.is_positive() {
                Fate::Accepted
            } else {
                Fate::Settled(refusal(Stage::Rcpt, reply))
            };
        }
    }

    /// Every recipient that is not settled yet gets this outcome.
    pub(super) fn settle_rest(&mut self, outcome: &Outcome) {
        for (_, fate) in &mut self.asked {
            if !matches!(fate, Fate::Settled(_)) {
                *fate = Fate::Settled(outcome.clone());
            }
        }
    }

    pub(super) fn into_outcomes(self) -> Outcomes {
        let mut outcomes = self.local;
        for (index, fate) in self.asked {
            if let Fate::Settled(outcome) = fate {
                outcomes.push((index, outcome));
            }
        }
        outcomes
    }
}

/// What a reply of 4xx or 5xx means at a stage.
pub(super) fn refusal(stage: Stage, reply: Reply) -> Outcome {
    let too_many = stage == Stage::Rcpt
        && reply.code == 552
        && reply.enhanced.is_none_or(|e| e == Enhanced::new(5, 5, 3));
    // RFC 5321 §4.5.3.1.10: 552 to RCPT says "too many recipients" in old servers.
    let permanent = reply.is_permanent() && !too_many;
    let cause = Cause::Reply { stage, reply };
    if permanent {
        Outcome::Refused(cause)
    } else {
        Outcome::Deferred(cause)
    }
}
