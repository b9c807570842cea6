use super::*;
use crate::provider::brain::{SessionId, Then, Verdict};
use crate::provider::simulate::{Peer, drive};
use crate::provider::text::Reply;
use crate::provider::{Class, Model, Outcome, Plan, Profile, Truth, load};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The desk as a simulated sender has it: commands as octets, replies as they come out.
struct Counter {
    desk: Desk,
    dialogues: HashMap<SessionId, Dialogue>,
}

impl Counter {
    fn new(profile: Arc<Profile>, plan: &Plan) -> Self {
        let brain = Brain::new(profile, plan.seed, plan.start);
        Self {
            desk: Desk {
                mind: Arc::new(Mind::new(brain)),
                events: None,
                clock: Clock::stopped_at(plan.start),
                batch: Batch::default(),
            },
            dialogues: HashMap::new(),
        }
    }

    /// What comes of a need, with all that was held back.
    fn hear(&mut self, dialogue: &mut Dialogue, mut need: Need) -> Verdict {
        let mut delay = Duration::ZERO;
        while let Need::Wait(wait) = need {
            delay += wait;
            need = self.desk.release(dialogue);
        }
        let then = match need {
            Need::Octets | Need::Wait(_) => Then::Go,
            Need::Close => Then::Close,
            Need::Secure => Then::Secure,
            Need::Reset => Then::Reset,
            Need::Silence => Then::Silence,
            Need::Drop => panic!("a provider drops nobody"),
        };
        Verdict {
            reply: Reply::made(std::mem::take(Desk::out(dialogue))),
            delay,
            then,
            class: Class::Accepted,
            is_taken: false,
        }
    }

    fn say(&mut self, id: SessionId, octets: &[u8], now: Moment) -> Verdict {
        self.desk.clock = Clock::stopped_at(now);
        let mut dialogue = self.dialogues.remove(&id).expect("it is open");
        let (used, need) = self.desk.take(&mut dialogue, octets);
        assert_eq!(used, octets.len());
        let verdict = self.hear(&mut dialogue, need);
        self.dialogues.insert(id, dialogue);
        verdict
    }
}

impl Peer for Counter {
    fn connect(&mut self, from: IpAddr, now: Moment) -> (SessionId, Verdict) {
        self.desk.clock = Clock::stopped_at(now);
        let (mut dialogue, need) = self.desk.open(from);
        let verdict = self.hear(&mut dialogue, need);
        let id = dialogue.id;
        self.dialogues.insert(id, dialogue);
        (id, verdict)
    }

    fn starttls(&mut self, id: SessionId, now: Moment) -> Verdict {
        let verdict = self.say(id, b"STARTTLS\r\n", now);
        if verdict.then == Then::Secure {
            let dialogue = self.dialogues.get_mut(&id).expect("it is open");
            self.desk.handle_secured(dialogue);
        }
        verdict
    }

    fn mail(&mut self, id: SessionId, sender: &str, now: Moment) -> Verdict {
        // After a transaction that came to nothing another one cannot begin without.
        assert_eq!(self.say(id, b"RSET\r\n", now).reply.code, 250);
        self.say(id, format!("MAIL FROM:<{sender}>\r\n").as_bytes(), now)
    }

    fn rcpt(&mut self, id: SessionId, recipient: &str, now: Moment) -> Verdict {
        self.say(id, format!("RCPT TO:<{recipient}>\r\n").as_bytes(), now)
    }

    fn data(&mut self, id: SessionId, now: Moment) -> Verdict {
        self.say(id, b"DATA\r\n", now)
    }

    fn end_of_data(&mut self, id: SessionId, header: &[u8], now: Moment) -> Verdict {
        self.say(id, &[header, b"..dotted\r\n.\r\n"].concat(), now)
    }

    fn close(&mut self, id: SessionId, now: Moment) {
        self.desk.clock = Clock::stopped_at(now);
        let dialogue = self.dialogues.remove(&id).expect("it is open");
        self.desk.close(dialogue);
    }

    fn pass(&mut self, now: Moment) {
        self.desk.clock = Clock::stopped_at(now);
        self.desk.handle_round();
    }

    fn truth(&mut self, now: Moment) -> Truth {
        lock(&self.desk.mind.brain).truth(now)
    }
}

/// Writes down when what was answered.
struct Record<P> {
    peer: P,
    replies: Vec<(Moment, Then, Duration, String)>,
}

impl<P> Record<P> {
    fn note(&mut self, verdict: Verdict, now: Moment) -> Verdict {
        let heard: &[u8] = match verdict.then {
            Then::Go | Then::Close | Then::Secure => &verdict.reply.octets,
            // Nobody hears it.
            Then::Reset | Then::Silence => b"",
        };
        let heard = String::from_utf8_lossy(heard).into_owned();
        self.replies.push((now, verdict.then, verdict.delay, heard));
        verdict
    }
}

impl<P: Peer> Peer for Record<P> {
    fn connect(&mut self, from: IpAddr, now: Moment) -> (SessionId, Verdict) {
        let (id, verdict) = self.peer.connect(from, now);
        (id, self.note(verdict, now))
    }

    fn starttls(&mut self, id: SessionId, now: Moment) -> Verdict {
        let verdict = self.peer.starttls(id, now);
        self.note(verdict, now)
    }

    fn mail(&mut self, id: SessionId, sender: &str, now: Moment) -> Verdict {
        let verdict = self.peer.mail(id, sender, now);
        self.note(verdict, now)
    }

    fn rcpt(&mut self, id: SessionId, recipient: &str, now: Moment) -> Verdict {
        let verdict = self.peer.rcpt(id, recipient, now);
        self.note(verdict, now)
    }

    fn data(&mut self, id: SessionId, now: Moment) -> Verdict {
        let verdict = self.peer.data(id, now);
        self.note(verdict, now)
    }

    fn end_of_data(&mut self, id: SessionId, header: &[u8], now: Moment) -> Verdict {
        let verdict = self.peer.end_of_data(id, header, now);
        self.note(verdict, now)
    }

    fn close(&mut self, id: SessionId, now: Moment) {
        self.peer.close(id, now);
    }

    fn pass(&mut self, now: Moment) {
        self.peer.pass(now);
    }

    fn truth(&mut self, now: Moment) -> Truth {
        self.peer.truth(now)
    }
}

fn recorded<P: Peer>(peer: P, profile: &Arc<Profile>, plan: &Plan) -> (Record<P>, Outcome) {
    let mut record = Record {
        peer,
        replies: Vec::new(),
    };
    let mut client = |_| Model::Steady.client(30, 15, 2.0);
    let stop = AtomicBool::new(false);
    let outcome = drive(&mut record, Arc::clone(profile), plan, &mut client, &stop);
    (record, outcome)
}

#[test]
fn one_brain_answers_alike_with_sockets_and_without() {
    for name in ["gmail", "yahoo", "netflap", "gateway", "greylister"] {
        let profile = Arc::new(load(name).unwrap());
        let plan = Plan {
            seed: 5,
            duration: Duration::from_secs(1800),
            rate: 3.0,
            recipients: 2,
            ..Plan::default()
        };
        let brain = Brain::new(Arc::clone(&profile), plan.seed, plan.start);
        let (bare, outcome) = recorded(brain, &profile, &plan);
        let counter = Counter::new(Arc::clone(&profile), &plan);
        let (served, again) = recorded(counter, &profile, &plan);
        assert!(bare.replies.len() > 1000, "{name}");
        for (bare, served) in bare.replies.iter().zip(&served.replies) {
            assert_eq!(bare, served, "{name}");
        }
        assert_eq!(bare.replies.len(), served.replies.len(), "{name}");
        let json = |outcome| serde_json::to_string(outcome).unwrap();
        assert_eq!(json(&outcome), json(&again), "{name}");
        let ledger = lock(&served.peer.desk.mind.ledger);
        assert_eq!(ledger.counts.messages, outcome.truth.accepted, "{name}");
    }
}
