//! Round after round: asks for what each shared limit wants, gives it what was granted, and says once
//! when Redis is lost and once when it is back. A question that waits for its answer keeps no other
//! limit waiting: of a cluster, one node may be dead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::shaping::limit::{Ask, Limit, LimitId, Meter, Pace, Places, Shards};
use posthaste_core::words::Moment;
use redis::RedisResult;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{error::Elapsed, sleep, timeout, timeout_at};

use super::accounts::{Accounts, Loss};
use super::link::{Link, connect};
use super::scripts::{Absence, Granted, Scripts};
use super::start::Shared;
use crate::rt::now;

/// Between two rounds, at least; as much as half of it comes on top at random, so that no node is
/// always the first to ask.
const ROUND: Duration = Duration::from_millis(40);
/// Without anything to ask, so often it is seen whether Redis is there.
const PROBE: Duration = Duration::from_millis(500);
const BACKOFF: Duration = Duration::from_millis(100);
/// Short, so that all nodes are back at about the same time.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// For what is given back at the end.
const GRACE: Duration = Duration::from_secs(1);
const SWEEP: Duration = Duration::from_secs(10);
/// A limit that failed and was not asked for again says nothing of Redis after this time.
const FAILING_MAX: Duration = Duration::from_secs(5);

/// A question, and what it was about.
#[derive(Clone, Copy, Debug)]
enum Call {
    Lease { rate: Pace, ask: Ask },
    Places(Places),
}

/// What a question was about, while its answer is awaited.
#[derive(Debug)]
struct Asked {
    limit: Arc<Limit>,
    call: Call,
    at: Moment,
}

type Answer = Result<RedisResult<Granted>, Elapsed>;

/// Questions under way over one link, one for each limit at most.
#[derive(Debug, Default)]
struct UnderWay {
    calls: JoinSet<(LimitId, Answer)>,
    asked: BTreeMap<LimitId, Asked>,
}

/// Answers of one round.
#[derive(Debug, Default)]
struct Heard {
    is_answered: bool,
    failed: Option<String>,
}

/// The link is of no use any more.
#[derive(Debug)]
struct Dead(String);

/// One per node, on the throttle's thread.
#[derive(Debug)]
pub(super) struct Rounds {
    shared: Arc<Shared>,
    scripts: Arc<Scripts>,
    accounts: Accounts,
    loss: Loss,
    is_lost: bool,
    /// When the question was put that was answered last.
    answered: Moment,
    /// Limits whose questions failed over a link that works, and when they last did.
    failing: BTreeMap<LimitId, Moment>,
    swept: Moment,
    random: u64,
}

impl Rounds {
    pub(super) fn new(shared: Arc<Shared>, scripts: Arc<Scripts>, seed: u64) -> Self {
        let accounts = Accounts::new(&shared.options.prefix);
        Self {
            shared,
            scripts,
            accounts,
            loss: Loss {
                number: 0,
                since: now(),
            },
            is_lost: false,
            answered: now(),
            failing: BTreeMap::new(),
            swept: now(),
            random: seed | 1,
        }
    }

    /// Until `stopped`; then what is left goes back.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut link = None;
        tokio::select! {
            () = self.go_round(&mut link) => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
        if let Some(mut link) = link {
            // Too late is as good as never: leases and a node's word end by themselves.
            let _ = timeout(GRACE, self.withdraw(&mut link)).await;
        }
    }

    async fn go_round(&mut self, kept: &mut Option<Link>) {
        let mut backoff = BACKOFF;
        loop {
            let patience = self.shared.options.timeout * 2;
            let connected = timeout(patience, connect(&self.shared.options)).await;
            let mut link = match connected {
                Ok(Ok(link)) => link,
                Ok(Err(error)) => {
                    self.fail(&error.to_string());
                    self.wait(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    continue;
                }
                Err(_) => {
                    self.fail("no answer");
                    continue;
                }
            };
            *kept = Some(link.clone());
            self.regain();
            let mut under_way = UnderWay::default();
            let Dead(error) = loop {
                match self.round(&mut link, &mut under_way).await {
                    Ok(()) => backoff = BACKOFF,
                    Err(dead) => break dead,
                }
            };
            self.give_up(under_way);
            self.fail(&error);
            *kept = None;
            self.wait(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Limits that are made meanwhile hear of the loss too.
    async fn wait(&mut self, pause: Duration) {
        let end = now() + self.jittered(pause);
        while now() < end {
            self.lose();
            sleep(ROUND).await;
        }
    }

    fn jittered(&mut self, span: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = u32::try_from(self.random % 128).unwrap_or(0);
        span + span * share / 256
    }

    /// Puts the questions there are to put, and hears answers until the next round.
    async fn round(&mut self, link: &mut Link, under_way: &mut UnderWay) -> Result<(), Dead> {
        let end = tokio::time::Instant::now() + self.jittered(ROUND);
        let limits = self.shared.registry.list();
        for limit in &limits {
            self.ask(limit, link, under_way);
        }
        self.show(under_way);
        if under_way.asked.is_empty() && now().since(self.answered) >= PROBE {
            self.probe(link).await?;
        }
        if now().since(self.swept) >= SWEEP {
            self.swept = now();
            self.accounts.sweep(&limits);
        }
        let mut heard = Heard::default();
        while !under_way.calls.is_empty() {
            let Ok(Some(joined)) = timeout_at(end, under_way.calls.join_next()).await else {
                break;
            };
            let (id, answer) = joined.expect("a question does not panic");
            if let Some(asked) = under_way.asked.remove(&id) {
                self.hear(&asked, answer, &mut heard);
            }
        }
        self.show(under_way);
        self.judge(heard, under_way)?;
        tokio::time::sleep_until(end).await;
        Ok(())
    }

    fn show(&mut self, under_way: &UnderWay) {
        let accounts = &mut self.accounts;
        let asked = under_way.asked.values();
        let oldest = asked.filter_map(|asked| accounts.of(&asked.limit).answered());
        let (count, oldest) = (under_way.asked.len(), oldest.min());
        self.shared.vitals.set_questions(count, oldest);
    }

    /// Of a cluster some nodes may be there: a link is dead when it answers nothing.
    fn judge(&mut self, heard: Heard, under_way: &UnderWay) -> Result<(), Dead> {
        let Some(error) = heard.failed else {
            return Ok(());
        };
        let patience = self.shared.options.timeout * 2;
        let is_over = under_way.asked.is_empty() || now().since(self.answered) >= patience;
        if !heard.is_answered && is_over {
            return Err(Dead(error));
        }
        self.say_lost(&error);
        Ok(())
    }

    async fn probe(&mut self, link: &mut Link) -> Result<(), Dead> {
        let at = now();
        let ping = redis::cmd("PING");
        let pong = ping.query_async::<String>(link);
        match timeout(self.shared.options.timeout, pong).await {
            Ok(Ok(_)) => {
                self.succeed(at);
                Ok(())
            }
            Ok(Err(error)) => Err(Dead(error.to_string())),
            Err(_) => Err(Dead("no answer".into())),
        }
    }

    fn ask(&mut self, limit: &Arc<Limit>, link: &Link, under_way: &mut UnderWay) {
        if under_way.asked.contains_key(&limit.id) {
            return;
        }
        let at = now();
        let Some(call) = self.call(limit, at) else {
            return;
        };
        let account = self.accounts.of(limit);
        let (key, absence) = (Arc::clone(&account.key), account.absence(self.loss, at));
        let (shared, scripts) = (Arc::clone(&self.shared), Arc::clone(&self.scripts));
        let (mut link, id) = (link.clone(), limit.id);
        under_way.calls.spawn(async move {
            let carry = carry_out(&scripts, &mut link, &key, &shared, call, absence);
            (id, timeout(shared.options.timeout * 2, carry).await)
        });
        let limit = Arc::clone(limit);
        under_way.asked.insert(id, Asked { limit, call, at });
    }

    fn hear(&mut self, asked: &Asked, answer: Answer, heard: &mut Heard) {
        let error = match answer {
            Ok(Ok(answer)) => {
                heard.is_answered = true;
                self.failing.remove(&asked.limit.id);
                self.succeed(asked.at);
                return self.settle(&asked.limit, asked.call, answer, asked.at);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".into(),
        };
        heard.failed.get_or_insert(error);
        self.failing.insert(asked.limit.id, now());
        self.unsettle(asked);
    }

    /// What is under way is answered by nobody.
    fn give_up(&mut self, mut under_way: UnderWay) {
        under_way.calls.abort_all();
        self.failing.clear();
        for asked in under_way.asked.values() {
            self.unsettle(asked);
        }
    }

    fn call(&mut self, limit: &Limit, now: Moment) -> Option<Call> {
        match &limit.meter {
            Meter::Rate(_) => None,
            Meter::Leased(leased) => {
                let rate = leased.rate();
                let loss = self.loss;
                let account = self.accounts.of(limit);
                let mut ask = leased.ask(now);
                ask.wanted = account.curb(ask.wanted, loss, now);
                let ask = account.ask(ask)?;
                Some(Call::Lease { rate, ask })
            }
            Meter::Connections(connections) => {
                let places = connections.ask()?;
                let is_news = self.accounts.of(limit).is_news(places, now);
                is_news.then_some(Call::Places(places))
            }
        }
    }

    fn settle(&mut self, limit: &Limit, call: Call, granted: Granted, begun: Moment) {
        let loss = self.loss;
        let account = self.accounts.of(limit);
        account.heard(loss, now());
        let shards = match (&limit.meter, call) {
            (Meter::Leased(leased), Call::Lease { rate, .. }) => {
                leased.hear_of_whole(granted.gone, now());
                let lease = account.grant(granted.count, granted.nodes, rate, begun);
                if granted.count == 0 {
                    leased.regain()
                } else {
                    leased.fill(lease, now())
                }
            }
            (Meter::Connections(connections), Call::Places(places)) => {
                let part = u32::try_from(granted.count).unwrap_or(u32::MAX);
                account.told(Places { part, ..places }, begun);
                connections.fill(part)
            }
            _ => unreachable!("a limit's meter is of one kind"),
        };
        self.tell(limit, shards);
    }

    fn unsettle(&mut self, asked: &Asked) {
        let account = self.accounts.of(&asked.limit);
        match asked.call {
            Call::Lease { ask, .. } => account.take_back(ask),
            Call::Places(_) => account.take_back(Ask::default()),
        }
        self.lose_one(&asked.limit);
    }

    fn tell(&self, limit: &Limit, shards: Shards) {
        if !shards.is_empty() {
            self.shared.node.freed(limit.id, shards);
        }
    }

    fn fail(&mut self, error: &str) {
        self.say_lost(error);
        self.lose();
    }

    fn say_lost(&mut self, error: &str) {
        if !self.is_lost {
            self.is_lost = true;
            self.loss = Loss {
                number: self.loss.number + 1,
                since: self.answered,
            };
            self.shared.vitals.set_lost();
            let line = format!("redis: lost, shared limits go on without it: {error}");
            self.shared.node.say(&line);
        }
    }

    /// What was asked at `asked` is answered.
    fn succeed(&mut self, asked: Moment) {
        self.answered = self.answered.max(asked);
        self.shared.vitals.set_answered(asked);
        let at = now();
        self.failing
            .retain(|_, failed| at.since(*failed) < FAILING_MAX);
        if !self.failing.is_empty() {
            return;
        }
        self.shared.vitals.set_lag(at.since(asked));
        if self.is_lost {
            self.is_lost = false;
            let away = now().since(self.loss.since);
            let line = format!("redis: back after {:.1} s", away.as_secs_f64());
            self.shared.node.say(&line);
            self.regain();
        }
    }

    fn lose(&mut self) {
        for limit in self.shared.registry.list() {
            self.lose_one(&limit);
        }
    }

    fn lose_one(&mut self, limit: &Limit) {
        let shards = match &limit.meter {
            Meter::Rate(_) => return,
            Meter::Leased(leased) => {
                let (now, rate) = (now(), leased.rate());
                if let Some(share) = self.accounts.of(limit).share_by_heads(rate, now) {
                    leased.set_share(share, now);
                }
                leased.lose()
            }
            Meter::Connections(connections) => connections.lose(),
        };
        self.tell(limit, shards);
    }

    fn regain(&self) {
        for limit in self.shared.registry.list() {
            if let Meter::Leased(leased) = &limit.meter {
                self.tell(&limit, leased.regain());
            }
        }
    }

    /// All that this node holds is for the others.
    async fn withdraw(&mut self, link: &mut Link) {
        for limit in self.shared.registry.list() {
            let call = match &limit.meter {
                Meter::Rate(_) => continue,
                Meter::Leased(leased) => {
                    let mut ask = leased.ask(now());
                    ask.unused += leased.withdraw();
                    (ask.wanted, ask.left) = (0, 0);
                    let Some(ask) = self.accounts.of(&limit).ask(ask) else {
                        continue;
                    };
                    let rate = leased.rate();
                    Call::Lease { rate, ask }
                }
                Meter::Connections(connections) => {
                    let Some(mut places) = connections.ask() else {
                        continue;
                    };
                    (places.open, places.wanted, places.part) = (0, 0, 0);
                    places.is_short = false;
                    Call::Places(places)
                }
            };
            let account = self.accounts.of(&limit);
            let (key, absence) = (Arc::clone(&account.key), account.absence(self.loss, now()));
            let shared = Arc::clone(&self.shared);
            let done = carry_out(&self.scripts, link, &key, &shared, call, absence).await;
            if done.is_err() {
                return;
            }
        }
    }
}

async fn carry_out(
    scripts: &Scripts,
    link: &mut Link,
    key: &str,
    shared: &Shared,
    call: Call,
    absence: Absence,
) -> RedisResult<Granted> {
    let node = &shared.options.node;
    match call {
        Call::Lease { rate, ask } => scripts.lease(link, key, node, rate, ask, absence).await,
        Call::Places(places) => scripts.places(link, key, node, places, absence).await,
    }
}
