//! From a domain to a plan: pumps `core::route` against cache and name servers.

use core::cell::RefCell;
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;

use posthaste_core::route::{Action, Answer, Policy, Query, Resolution, Routed};
use posthaste_core::words::{Domain, Moment, Plan, RouteError};

use super::asking::Asking;
use super::cache::Cache;
use super::client::{Client, Options};
use super::flight::{Boarding, Flights};

/// An answer and until when it holds.
type Answered = (Rc<Answer>, Moment);

/// The DNS for one shard.
#[derive(Debug)]
pub struct Resolver {
    policy: RefCell<Arc<Policy>>,
    client: Client,
    cache: RefCell<Cache>,
    flights: Flights,
}

impl Resolver {
    pub fn new(options: Options, policy: Arc<Policy>) -> Self {
        Self {
            policy: RefCell::new(policy),
            cache: RefCell::new(Cache::new(options.entries_max.max(1))),
            client: Client::new(options),
            flights: Flights::default(),
        }
    }

    /// Routes by `policy` from here on; answers already held stay.
    pub fn set_policy(&self, policy: Arc<Policy>) {
        *self.policy.borrow_mut() = policy;
    }

    /// Answers held.
    pub fn entries(&self) -> usize {
        self.cache.borrow().len()
    }

    /// The plan for `domain`, or why there is none, and until when that holds. Questions that do
    /// not depend on each other are asked at once; the same question is never out twice.
    pub async fn resolve(
        &self,
        domain: &Domain,
        now: Moment,
    ) -> (Result<Arc<Plan>, RouteError>, Moment) {
        let policy = Arc::clone(&self.policy.borrow());
        let mut resolution = Resolution::new(domain, &policy, self.client.draw());
        let mut asking = Asking::default();
        let mut until = Moment::NEVER;
        loop {
            while let Some(action) = resolution.poll_action() {
                match action {
                    Action::Query(query) => asking.push(self.answer(query, now)),
                    Action::Done(Routed { result, ttl }) => {
                        let until = until.min(now + ttl.max(self.client.options().ttl_min));
                        return (result.map(Arc::new), until);
                    }
                }
            }
            let (query, (answer, holds)) = asking.next().await;
            until = until.min(holds);
            resolution.handle_answer(&query, &answer);
        }
    }

    async fn answer(&self, query: Query, now: Moment) -> (Query, Answered) {
        let held = self.cache.borrow().find(&query, now);
        if let Some(answered) = held {
            return (query, answered);
        }
        let answered = match self.flights.board(&query).await {
            Boarding::Answered(answer) => {
                let until = now + self.life(&answer);
                (answer, until)
            }
            Boarding::Lead(lead) => {
                let answer = Rc::new(self.client.ask(&query).await);
                let until = now + self.life(&answer);
                self.cache
                    .borrow_mut()
                    .insert(&query, Rc::clone(&answer), until);
                lead.land(&answer);
                (answer, until)
            }
        };
        (query, answered)
    }

    fn life(&self, answer: &Answer) -> Duration {
        let options = self.client.options();
        let is_negative = answer.records.is_empty() && answer.alias.is_none();
        let ttl_max = if is_negative {
            options.negative_ttl_max
        } else {
            options.ttl_max
        };
        answer.ttl.max(options.ttl_min).min(ttl_max)
    }
}
