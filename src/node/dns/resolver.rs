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

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::net::{SocketAddr, UdpSocket};
    use std::thread::JoinHandle;

    use hickory_proto::op::{Message, MessageType};
    use hickory_proto::rr::rdata::{A, MX};
    use hickory_proto::rr::{RData, Record, RecordType as WireType};
    use posthaste_core::route::{Data, Exchange, Status};

    use super::super::message::failure;
    use super::*;
    use crate::rt;

    const NOW: Moment = Moment::from_secs(1_800_000_000);
    const MX_SECS: u32 = 100;
    const ADDRESS_SECS: u32 = 7;

    /// Says MX and A of every name, and that there is no AAAA; counts what it is asked.
    struct Server {
        address: SocketAddr,
        asked: Arc<AtomicUsize>,
        ended: Arc<AtomicBool>,
        thread: Option<JoinHandle<()>>,
    }

    impl Server {
        fn start() -> Self {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let patience = Duration::from_millis(20);
            socket.set_read_timeout(Some(patience)).unwrap();
            let address = socket.local_addr().unwrap();
            let (asked, ended) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
            let (count, end) = (Arc::clone(&asked), Arc::clone(&ended));
            let thread = std::thread::spawn(move || {
                let mut query = [0; 1500];
                while !end.load(Ordering::Relaxed) {
                    if let Ok((octets, from)) = socket.recv_from(&mut query) {
                        count.fetch_add(1, Ordering::Relaxed);
                        socket.send_to(&reply(&query[..octets]), from).unwrap();
                    }
                }
            });
            Self {
                address,
                asked,
                ended,
                thread: Some(thread),
            }
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.ended.store(true, Ordering::Relaxed);
            self.thread.take().map(JoinHandle::join);
        }
    }

    fn reply(query: &[u8]) -> Vec<u8> {
        let mut message = Message::from_vec(query).unwrap();
        message.metadata.message_type = MessageType::Response;
        let name = message.queries[0].name().clone();
        let kind = message.queries[0].query_type();
        let data = if kind == WireType::MX {
            Some((MX_SECS, RData::MX(MX::new(10, name.clone()))))
        } else if kind == WireType::A {
            let address = A("203.0.113.1".parse().unwrap());
            Some((ADDRESS_SECS, RData::A(address)))
        } else {
            None
        };
        message.answers = data
            .map(|(ttl, data)| Record::from_rdata(name, ttl, data))
            .into_iter()
            .collect();
        message.to_vec().unwrap()
    }

    fn resolver(resolvers: Vec<SocketAddr>) -> Resolver {
        let options = Options {
            resolvers,
            timeout: Duration::from_secs(5),
            ttl_min: Duration::from_secs(5),
            ttl_max: Duration::from_secs(1000),
            negative_ttl_max: Duration::from_secs(100),
            ..Options::default()
        };
        Resolver::new(options, Arc::default())
    }

    #[test]
    fn answers_live_within_their_bounds() {
        let resolver = resolver(Vec::new());
        let answer = |alias: Option<&str>, records: &[Data], secs| Answer {
            status: Status::Exists,
            alias: alias.map(|name| Domain::parse(name).unwrap()),
            records: records.to_vec(),
            ttl: Duration::from_secs(secs),
        };
        let root = [Data::Mx {
            preference: 0,
            exchange: Exchange::Root,
        }];
        for (what, answer, secs) in [
            ("records", answer(None, &root, 300), 300),
            ("records, short", answer(None, &root, 0), 5),
            ("records, long", answer(None, &root, 1001), 1000),
            ("an alias, long", answer(Some("a.test"), &[], 1001), 1000),
            ("none", answer(None, &[], 30), 30),
            ("none, short", answer(None, &[], 4), 5),
            ("none, long", answer(None, &[], 101), 100),
            ("a failure", failure("SERVFAIL"), 15),
        ] {
            assert_eq!(resolver.life(&answer).as_secs(), secs, "{what}");
        }
    }

    #[test]
    fn nothing_is_asked_again_before_the_earliest_end() {
        let server = Server::start();
        let resolver = resolver(vec![server.address]);
        let domain = Domain::parse("two.test").unwrap();
        let at = |secs| NOW + Duration::from_secs(secs);
        rt::run(async {
            let (first, until) = resolver.resolve(&domain, NOW).await;
            assert_eq!((until, server.asked()), (at(7), 3), "MX, A and AAAA");
            let (second, until) = resolver.resolve(&domain, at(6)).await;
            assert_eq!((until, server.asked()), (at(7), 3), "all are held");
            assert_eq!(first.unwrap().hosts, second.unwrap().hosts);
            let (_, until) = resolver.resolve(&domain, at(7)).await;
            assert_eq!((until, server.asked()), (at(14), 4), "the address ended");
        })
        .unwrap();
    }

    #[test]
    fn a_failure_is_held_too() {
        // Nobody listens at a port that was given back.
        let gone = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let resolver = resolver(vec![gone]);
        let domain = Domain::parse("two.test").unwrap();
        rt::run(async {
            let (result, until) = resolver.resolve(&domain, NOW).await;
            assert!(matches!(result, Err(RouteError::Dns(_))), "{result:?}");
            assert_eq!(until, NOW + Duration::from_secs(15));
            let late = NOW + Duration::from_secs(14);
            let (_, held) = resolver.resolve(&domain, late).await;
            assert_eq!(held, until);
        })
        .unwrap();
    }
}
