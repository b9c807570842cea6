//! The dialogue against scripted peers, and against a model of a server with a will of its own.

mod downgrade;
mod endings;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::{Action, Config, Dialogue, Transaction};
use crate::words::{
    Address, BodyKind, Cause, Content, Envelope, Labels, Message, MessageId, Moment, Notify,
    Outcome, Reception, Recipient, Ret, Stage,
};

const T0: Moment = Moment::from_secs(1_000);
const PIPELINING: &str = "250-x\r\n250 PIPELINING\r\n";
const OK2: &str = "250 ok\r\n250 ok\r\n354 go\r\n";

fn message(seq: u64, recipients: u16) -> Message {
    let recipient = |index| Recipient {
        address: Address::parse(&format!("r{index}.{seq}@example.com")).unwrap(),
        notify: Notify::default(),
        orcpt: None,
    };
    Message {
        id: MessageId::from_u128(u128::from(seq)),
        envelope: Envelope {
            sender: Some(Address::parse("s@example.org").unwrap()),
            body: BodyKind::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            recipients: (0..recipients).map(recipient).collect(),
        },
        reception: Reception {
            at: T0,
            peer: None,
            helo: "".into(),
            protocol: "LOCAL",
        },
        content: Content::default(),
        labels: Labels::default(),
        data: Bytes::from(format!("Subject: {seq}\r\n\r\n.hi\r\n")),
    }
}

fn transaction(seq: u64, message: Message) -> Transaction {
    let count = u16::try_from(message.envelope.recipients.len()).unwrap();
    Transaction {
        seq,
        message: Arc::new(message),
        recipients: (0..count).collect(),
    }
}

struct Bench {
    dialogue: Dialogue,
    work: VecDeque<Transaction>,
    /// What is not `Send` or `Ready`.
    log: Vec<Action>,
    writes: Vec<String>,
}

impl Bench {
    fn new(config: Config, transactions: &[(u64, u16)]) -> Self {
        Self {
            dialogue: Dialogue::new(Arc::new(config), T0),
            work: transactions
                .iter()
                .map(|(seq, recipients)| transaction(*seq, message(*seq, *recipients)))
                .collect(),
            log: Vec::new(),
            writes: Vec::new(),
        }
    }

    fn plain(transactions: &[(u64, u16)]) -> Self {
        Self::new(Config::new("me.example"), transactions)
    }

    fn pump(&mut self) {
        while let Some(action) = self.dialogue.poll_action() {
            match action {
                Action::Send(segments) => {
                    self.writes
                        .push(String::from_utf8(segments.concat()).unwrap());
                }
                Action::Ready => match self.work.pop_front() {
                    Some(next) => self.dialogue.handle_transaction(next, T0),
                    None => self.dialogue.handle_no_work(T0),
                },
                Action::Idle
                | Action::Outcome { .. }
                | Action::Returned(_)
                | Action::Closed { .. } => {
                    self.log.push(action);
                }
            }
        }
    }

    fn say(&mut self, text: &str) -> &mut Self {
        self.dialogue.handle_bytes(text.as_bytes(), T0);
        self.pump();
        self
    }

    fn close(&mut self) -> &mut Self {
        self.dialogue.handle_closed("reset");
        self.pump();
        self
    }

    fn outcome(&self, seq: u64, recipient: u16) -> &Outcome {
        self.log
            .iter()
            .find_map(|action| match action {
                Action::Outcome { seq: s, outcomes } if *s == seq => outcomes
                    .iter()
                    .find_map(|(index, outcome)| (*index == recipient).then_some(outcome)),
                Action::Send(_)
                | Action::Ready
                | Action::Idle
                | Action::Outcome { .. }
                | Action::Returned(_)
                | Action::Closed { .. } => None,
            })
            .unwrap_or_else(|| panic!("no outcome of {seq}/{recipient} in {:?}", self.log))
    }

    fn returned(&self) -> Vec<u64> {
        self.log
            .iter()
            .filter_map(|action| match action {
                Action::Returned(t) => Some(t.seq),
                Action::Send(_)
                | Action::Ready
                | Action::Idle
                | Action::Outcome { .. }
                | Action::Closed { .. } => None,
            })
            .collect()
    }

    fn last_write(&self) -> &str {
        self.writes.last().unwrap()
    }
}

fn stage_of(outcome: &Outcome) -> Option<(Stage, bool)> {
    let (cause, permanent) = match outcome {
        Outcome::Delivered(_) => return None,
        Outcome::Deferred(cause) => (cause, false),
        Outcome::Refused(cause) => (cause, true),
    };
    match cause {
        Cause::Reply { stage, .. } | Cause::Lost { stage, .. } | Cause::Protocol { stage, .. } => {
            Some((*stage, permanent))
        }
        Cause::Connect { .. }
        | Cause::Route(_)
        | Cause::NotSupported { .. }
        | Cause::Expired { .. }
        | Cause::Operator { .. }
        | Cause::Ours { .. } => None,
    }
}

fn is_lost_at_dot(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Deferred(Cause::Lost {
            stage: Stage::Dot,
            ..
        })
    )
}

#[test]
fn the_next_transaction_rides_with_the_final_dot() {
    let mut bench = Bench::plain(&[(1, 1), (2, 2)]);
    bench.say("220 hi\r\n").say(PIPELINING);
    assert_eq!(
        bench.last_write(),
        "MAIL FROM:<s@example.org>\r\nRCPT TO:<r0.1@example.com>\r\nDATA\r\n"
    );
    bench.say(OK2);
    assert_eq!(
        bench.last_write(),
        "Subject: 1\r\n\r\n..hi\r\n.\r\nMAIL FROM:<s@example.org>\r\n\
         RCPT TO:<r0.2@example.com>\r\nRCPT TO:<r1.2@example.com>\r\nDATA\r\n"
    );
    bench.say("250 q1\r\n250 ok\r\n250 ok\r\n550 5.1.1 no\r\n354 go\r\n");
    assert!(matches!(bench.outcome(1, 0), Outcome::Delivered(r) if &*r.text == "q1"));
    assert_eq!(bench.last_write(), "Subject: 2\r\n\r\n..hi\r\n.\r\n");
    bench.say("250 q2\r\n");
    assert!(matches!(bench.outcome(2, 0), Outcome::Delivered(_)));
    assert_eq!(stage_of(bench.outcome(2, 1)), Some((Stage::Rcpt, true)));
    assert_eq!(bench.log.last(), Some(&Action::Idle));
    assert_eq!(
        bench.dialogue.poll_timeout(),
        None,
        "idle waits for nothing"
    );
    let third = transaction(3, message(3, 1));
    bench.dialogue.handle_transaction(third, T0);
    bench.pump();
    assert!(
        bench.last_write().starts_with("MAIL"),
        "no RSET after a dot"
    );
}

#[test]
fn without_pipelining_each_command_waits() {
    for config in [
        Config::new("me.example"),
        Config {
            pipelining: false,
            ..Config::new("me.example")
        },
    ] {
        let offer = if config.pipelining {
            "250 x\r\n"
        } else {
            PIPELINING
        };
        let mut bench = Bench::new(config, &[(1, 2), (2, 1), (3, 1)]);
        bench.say("220 hi\r\n").say(offer);
        for (reply, next) in [
            ("250 ok\r\n", "RCPT TO:<r0.1"),
            ("450 wait\r\n", "RCPT TO:<r1.1"),
            ("250 ok\r\n", "DATA"),
            ("354 go\r\n", "Subject: 1\r\n\r\n..hi\r\n.\r\n"),
            ("250 q\r\n", "MAIL"),
            ("250 ok\r\n", "RCPT TO:<r0.2"),
            ("550 no\r\n", "RSET\r\n"),
            ("250 ok\r\n", "MAIL"),
            ("550 no\r\n", "MAIL"),
        ] {
            bench.say(reply);
            if bench.last_write().starts_with("MAIL") && reply.starts_with("550") {
                break;
            }
            assert!(
                bench.last_write().starts_with(next),
                "{reply}: {:?}",
                bench.writes
            );
        }
        assert_eq!(stage_of(bench.outcome(1, 0)), Some((Stage::Rcpt, false)));
        assert!(matches!(bench.outcome(1, 1), Outcome::Delivered(_)));
        assert_eq!(stage_of(bench.outcome(3, 0)), Some((Stage::Mail, true)));
        assert_eq!(bench.log.last(), Some(&Action::Idle));
    }
}

#[test]
fn all_refused_with_354_gets_a_lone_dot_and_no_mail() {
    let mut bench = Bench::plain(&[(1, 1), (2, 1)]);
    bench.say("220 hi\r\n").say(PIPELINING);
    bench.say("250 ok\r\n550 5.1.1 no\r\n354 go\r\n");
    assert!(bench.last_write().starts_with(".\r\nMAIL"));
    bench.say("554 no valid recipients\r\n250 ok\r\n250 ok\r\n354 go\r\n250 q\r\n");
    assert_eq!(stage_of(bench.outcome(1, 0)), Some((Stage::Rcpt, true)));
}

#[test]
fn all_refused_without_354_is_reset_with_the_next_mail() {
    let mut bench = Bench::plain(&[(1, 1), (2, 1)]);
    bench.say("220 hi\r\n").say(PIPELINING);
    bench.say("250 ok\r\n450 4.2.0 later\r\n503 no recipients\r\n");
    assert_eq!(stage_of(bench.outcome(1, 0)), Some((Stage::Rcpt, false)));
    assert!(bench.last_write().starts_with("RSET\r\nMAIL"));
    bench
        .say("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
        .say("250 q\r\n");
    assert!(matches!(bench.outcome(2, 0), Outcome::Delivered(_)));
}

#[test]
fn a_refused_mail_settles_all_and_needs_no_reset() {
    let mut bench = Bench::plain(&[(1, 2), (2, 1)]);
    bench.say("220 hi\r\n").say(PIPELINING);
    bench.say("550 5.7.1 no\r\n503 x\r\n503 x\r\n503 x\r\n");
    for recipient in 0..2 {
        assert_eq!(
            stage_of(bench.outcome(1, recipient)),
            Some((Stage::Mail, true))
        );
    }
    assert!(bench.last_write().starts_with("MAIL"));
}

#[test]
fn helo_is_the_fallback_and_a_refused_one_is_the_end() {
    let mut bench = Bench::plain(&[(1, 1)]);
    bench.say("220 hi\r\n").say("502 what?\r\n");
    assert_eq!(bench.last_write(), "HELO me.example\r\n");
    bench.say("250 PIPELINING\r\n");
    assert_eq!(bench.last_write(), "MAIL FROM:<s@example.org>\r\n");
    for script in [
        &["554 go away\r\n"][..],
        &["421 busy\r\n"],
        &["220 x\r\n", "450 no\r\n"],
        &["220 x\r\n", "500 no\r\n", "500 no\r\n"],
        &["220 x\r\n", "521 5.3.2 no mail here\r\n"],
        &["HTTP/1.1\r\n"],
        &["220 a\r\n220 b\r\n"],
        &["350 a\r\n"],
    ] {
        let mut bench = Bench::plain(&[(1, 1)]);
        for text in script {
            bench.say(text);
        }
        assert!(
            matches!(
                bench.log[..],
                [Action::Closed {
                    cause: Some(_),
                    before_ready: true
                }]
            ),
            "{script:?}: {:?}",
            bench.log
        );
    }
}

#[test]
fn parameters_go_out_where_they_are_offered() {
    let mut full = message(1, 2);
    full.envelope.ret = Some(Ret::Headers);
    full.envelope.envid = Some("QQ+2B1".into());
    full.envelope.body = BodyKind::EightBitMime;
    full.envelope.smtputf8 = true;
    full.envelope.recipients[0].notify = Notify::NEVER;
    full.envelope.recipients[0].orcpt = Some("rfc822;a@b".into());
    full.envelope.recipients[1].notify = Notify {
        given: true,
        success: true,
        failure: true,
        delay: true,
    };
    full.envelope.recipients[1].orcpt = Some("rfc822;a\r\nRSET".into());
    let mut bench = Bench::plain(&[]);
    bench.work.push_back(transaction(1, full));
    bench.say("220 x\r\n");
    bench.say("250-x\r\n250-SIZE\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250 PIPELINING\r\n");
    assert_eq!(
        bench.last_write(),
        "MAIL FROM:<s@example.org> SIZE=19 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B1\r\n\
         RCPT TO:<r0.1@example.com> NOTIFY=NEVER ORCPT=rfc822;a@b\r\n\
         RCPT TO:<r1.1@example.com> NOTIFY=SUCCESS,FAILURE,DELAY\r\nDATA\r\n"
    );
}

/// Server bytes of two transactions, one write of the client's between two of these.
const SESSION: [&str; 4] = [
    "220-hi\r\n220 there\r\n",
    "250-x\r\n250-SIZE 10000\r\n250 PIPELINING\r\n",
    "250 ok\r\n550-5.1.1 no\r\n550 5.1.1 one\r\n250 ok\r\n354 go\r\n",
    "250 q1\r\n250 ok\r\n250 ok\r\n354 go\r\n",
];

#[test]
fn cuts_of_the_peers_bytes_change_nothing() {
    let run = |chunk: usize, cut: Option<usize>| {
        let mut bench = Bench::plain(&[(1, 2), (2, 1)]);
        for (index, text) in SESSION.iter().chain(&["250 q2\r\n"]).enumerate() {
            match cut {
                Some(cut) if index == chunk && cut < text.len() => {
                    bench.say(&text[..cut]).say(&text[cut..]);
                }
                Some(_) => {
                    bench.say(text);
                }
                None => {
                    for octet in 0..text.len() {
                        bench.say(&text[octet..=octet]);
                    }
                }
            }
        }
        (bench.writes.concat(), bench.log)
    };
    let whole = run(9, Some(0));
    assert_eq!(whole.1.len(), 3);
    assert_eq!(run(0, None), whole, "byte by byte");
    for (chunk, text) in SESSION.iter().enumerate() {
        for cut in 0..text.len() {
            assert_eq!(run(chunk, Some(cut)), whole, "{chunk} at {cut}");
        }
    }
}

#[test]
fn a_close_at_any_byte_leaves_no_transaction_untold() {
    let all = SESSION.concat();
    for end in 0..=all.len() {
        for timed_out in [false, true] {
            let mut bench = Bench::plain(&[(1, 2), (2, 1), (3, 1)]);
            let mut left = end;
            for text in SESSION {
                let part = left.min(text.len());
                bench.say(&text[..part]);
                left -= part;
            }
            if timed_out {
                let due = bench.dialogue.poll_timeout().unwrap();
                bench.dialogue.handle_timeout(due);
                bench.pump();
            } else {
                bench.close();
            }
            let Some(Action::Closed {
                cause: Some(cause),
                before_ready,
            }) = bench.log.last()
            else {
                panic!("{:?}", bench.log)
            };
            assert!(matches!(cause, Cause::Lost { .. }));
            let ehlo_done = SESSION[0].len() + SESSION[1].len();
            assert_eq!(*before_ready, end < ehlo_done);
            let data_done = ehlo_done + SESSION[2].len();
            if end < ehlo_done {
                assert_eq!(bench.log.len(), 1);
            } else if end < data_done {
                assert!(matches!(
                    bench.outcome(1, 1),
                    Outcome::Deferred(Cause::Lost { .. })
                ));
                assert!(bench.returned().is_empty());
            } else if end < data_done + "250 q1\r\n".len() {
                assert!(
                    is_lost_at_dot(bench.outcome(1, 1)),
                    "it may have been delivered"
                );
                assert_eq!(stage_of(bench.outcome(1, 0)), Some((Stage::Rcpt, true)));
                assert_eq!(bench.returned(), [2], "nothing of it was decided");
            } else if end < data_done + "250 q1\r\n250 ok\r\n".len() {
                assert!(matches!(bench.outcome(1, 1), Outcome::Delivered(_)));
                assert_eq!(bench.returned(), [2]);
            } else if end < all.len() {
                assert!(matches!(
                    bench.outcome(2, 0),
                    Outcome::Deferred(Cause::Lost { .. })
                ));
            } else {
                assert!(is_lost_at_dot(bench.outcome(2, 0)));
                assert_eq!(bench.returned(), [3]);
            }
        }
    }
}

/// A server that parses what it gets on its own and answers by chance.
struct Server {
    random: u64,
    pipelining: bool,
    input: Vec<u8>,
    mail: bool,
    accepted: Vec<String>,
    body: Option<String>,
    delivered: BTreeSet<String>,
    decided: BTreeSet<String>,
    open: bool,
}

impl Server {
    fn chance(&mut self, of: u64) -> bool {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33).is_multiple_of(of)
    }

    fn judge(&mut self, good: &str) -> String {
        if self.chance(40) {
            self.open = false;
            return if self.chance(2) {
                "421 4.3.2 bye\r\n".into()
            } else {
                String::new()
            };
        }
        match (self.chance(4), self.chance(2)) {
            (false, _) => format!("{good}\r\n"),
            (true, false) => "450-4.0.0 later\r\n450 4.0.0 really\r\n".into(),
            (true, true) => "550 5.0.0 no\r\n".into(),
        }
    }

    fn take(&mut self, text: &str) -> String {
        self.input.extend_from_slice(text.as_bytes());
        let mut out = String::new();
        while self.open {
            let Some(end) = self.input.windows(2).position(|w| w == b"\r\n") else {
                break;
            };
            let line: Vec<u8> = self.input.drain(..end + 2).collect();
            let line = String::from_utf8(line).unwrap();
            let before = out.len();
            out.push_str(&self.line(line.trim_end()));
            if !self.pipelining && out.len() > before {
                assert!(self.input.is_empty(), "the peer offered no PIPELINING");
            }
        }
        out
    }

    fn line(&mut self, line: &str) -> String {
        if let Some(body) = &mut self.body {
            if line != "." {
                body.push_str(line);
                return String::new();
            }
            self.body = None;
            self.mail = false;
            let accepted = core::mem::take(&mut self.accepted);
            if accepted.is_empty() {
                return "554 no recipients\r\n".into();
            }
            let reply = self.judge("250 queued");
            if reply.starts_with("250") {
                for recipient in accepted {
                    assert!(self.delivered.insert(recipient), "delivered twice");
                }
            }
            return reply;
        }
        if let Some(rest) = line.strip_prefix("RCPT TO:<") {
            let address = rest.trim_end_matches('>').to_owned();
            if !self.mail {
                return "503 5.5.1 MAIL first\r\n".into();
            }
            self.decided.insert(address.clone());
            let reply = self.judge("250 ok");
            if reply.starts_with("250") {
                self.accepted.push(address);
            }
            return reply;
        }
        match line.split([' ', ':']).next().unwrap() {
            "EHLO" if self.pipelining => PIPELINING.into(),
            "EHLO" => "250 x\r\n".into(),
            "MAIL" => {
                assert!(!self.mail, "nested MAIL");
                let reply = self.judge("250 ok");
                self.mail = reply.starts_with("250");
                reply
            }
            "RSET" => {
                self.mail = false;
                self.accepted.clear();
                "250 ok\r\n".into()
            }
            "DATA" => {
                let willing = !self.accepted.is_empty() || (self.mail && self.chance(2));
                if !willing {
                    return "503 5.5.1 no\r\n".into();
                }
                let reply = self.judge("354 go");
                self.body = reply.starts_with("354").then(String::new);
                reply
            }
            other => panic!("unknown command {other:?}"),
        }
    }
}

#[test]
fn outcomes_agree_with_what_a_capricious_server_did() {
    for seed in 0..4000u64 {
        let mut server = Server {
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            pipelining: seed % 3 != 0,
            input: Vec::new(),
            mail: false,
            accepted: Vec::new(),
            body: None,
            delivered: BTreeSet::new(),
            decided: BTreeSet::new(),
            open: true,
        };
        let given: Vec<(u64, u16)> = (0..6).map(|n| (n, 1 + (seed + n) as u16 % 3)).collect();
        let mut bench = Bench::plain(&given);
        bench.say("220 x\r\n");
        let mut heard = 0;
        while heard < bench.writes.len() && server.open {
            let reply = server.take(&bench.writes[heard].clone());
            heard += 1;
            let cut = usize::try_from(seed).unwrap() % (reply.len() + 1);
            bench.say(&reply[..cut]).say(&reply[cut..]);
        }
        bench.close();
        let mut told: BTreeMap<String, bool> = BTreeMap::new();
        for action in &bench.log {
            if let Action::Outcome { seq, outcomes } = action {
                for (index, outcome) in outcomes {
                    let delivered = matches!(outcome, Outcome::Delivered(_));
                    let again = told.insert(format!("r{index}.{seq}@example.com"), delivered);
                    assert_eq!(again, None, "seed {seed}: told twice");
                }
            }
        }
        let delivered: BTreeSet<String> = told
            .iter()
            .filter(|(_, d)| **d)
            .map(|(a, _)| a.clone())
            .collect();
        assert_eq!(delivered, server.delivered, "seed {seed}");
        let returned = bench.returned();
        for (seq, recipients) in given {
            let waits = bench.work.iter().any(|t| t.seq == seq);
            for index in 0..recipients {
                let address = format!("r{index}.{seq}@example.com");
                let is_told = told.contains_key(&address);
                let is_back = returned.contains(&seq);
                assert_eq!(
                    usize::from(is_told) + usize::from(is_back) + usize::from(waits),
                    1,
                    "seed {seed}: {address} must be told of once"
                );
                assert!(
                    !(is_back && server.decided.contains(&address)),
                    "seed {seed}: decided"
                );
            }
        }
        assert!(matches!(bench.log.last(), Some(Action::Closed { .. })));
    }
}

#[test]
fn a_bad_reply_at_each_stage_hits_its_own_transaction_only() {
    let good = [
        "250 ok", "250 ok", "354 go", "250 q", "250 ok", "250 ok", "354 go", "250 q",
    ];
    let stages = [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Dot];
    for bad in ["421 4.3.2 bye", "?!", "199 x", "399 x"] {
        for at in 0..good.len() {
            if bad == "399 x" && at % 4 == 2 {
                continue;
            }
            let mut bench = Bench::plain(&[(1, 1), (2, 1)]);
            bench.say("220 x\r\n").say(PIPELINING);
            for (index, reply) in good.iter().enumerate() {
                let reply = if index == at { bad } else { reply };
                bench.say(&format!("{reply}\r\n"));
            }
            bench.close();
            let hit = 1 + at as u64 / 4;
            let expected = Some((stages[at % 4], false));
            assert_eq!(stage_of(bench.outcome(hit, 0)), expected, "{bad} at {at}");
            if hit == 2 {
                assert!(matches!(bench.outcome(1, 0), Outcome::Delivered(_)));
            } else if at == 3 {
                assert_eq!(bench.returned(), [2], "{bad}: nothing of it was decided");
            } else {
                assert_eq!(bench.work.len(), 1, "it was not asked for");
            }
            let Some(Action::Closed {
                cause: Some(_),
                before_ready: false,
            }) = bench.log.last()
            else {
                panic!("{bad} at {at}: {:?}", bench.log)
            };
        }
    }
}

#[test]
fn refusals_at_dot_and_data_keep_the_connection() {
    for (code, permanent) in [("450 4.2.0 x", false), ("550 5.7.1 x", true)] {
        let mut bench = Bench::plain(&[(1, 1), (2, 1)]);
        bench.say("220 x\r\n").say(PIPELINING);
        bench.say(&format!("250 ok\r\n250 ok\r\n{code}\r\n"));
        assert_eq!(
            stage_of(bench.outcome(1, 0)),
            Some((Stage::Data, permanent))
        );
        assert!(
            bench.last_write().starts_with("RSET\r\nMAIL"),
            "MAIL stood open"
        );
        bench.say("250 ok\r\n").say(OK2).say(&format!("{code}\r\n"));
        assert_eq!(stage_of(bench.outcome(2, 0)), Some((Stage::Dot, permanent)));
        assert_eq!(bench.log.last(), Some(&Action::Idle));
    }
}

#[test]
fn a_552_to_rcpt_may_mean_too_many() {
    for (reply, permanent) in [
        ("552 too many", false),
        ("552 5.5.3 x", false),
        ("552 5.2.2 full", true),
    ] {
        let mut bench = Bench::plain(&[(1, 1)]);
        bench.say("220 x\r\n").say(PIPELINING);
        bench.say(&format!("250 ok\r\n{reply}\r\n503 x\r\n"));
        assert_eq!(
            stage_of(bench.outcome(1, 0)),
            Some((Stage::Rcpt, permanent)),
            "{reply}"
        );
    }
}
