//! `posthaste queue` against the endpoint it was made for.

use std::process::{Command, Output};
use std::sync::Arc;

use posthaste::config::Secret;
use posthaste::control::{self, Control, Node, Options, Target};
use posthaste::delivery::SourceState;
use posthaste::mesh::{Answer, Ask, Question};
use posthaste::observe::{Mode, meters};
use posthaste_core::dispatch::{Act, Counters, DomainRow, Found, LaneRow, Shapes};
use posthaste_core::egress::Progress;
use posthaste_core::shaping::{NotSet, Wish};
use posthaste_core::words::{Domain, Labels, MessageId, Moment, ShardId, SiteName};

const ID: MessageId = MessageId::from_u128(0x0190_0000_0000_0001_0000_0000_0000_002A);

struct Still;

impl Node for Still {
    fn ask(&self, _shard: ShardId, ask: Ask) -> Result<(), Ask> {
        let domain = Domain::parse("example.com").expect("a domain");
        let site = SiteName::new("mx.example.com");
        let answer = match ask.question {
            Question::Domains { .. } => Answer::Domains(vec![DomainRow {
                domain,
                site: Some(site),
                queued: 7,
                paused_until: None,
                why: "451 4.7.1 greylisted".into(),
                waits_for: "".into(),
            }]),
            Question::Lanes { .. } => Answer::Lanes(vec![LaneRow {
                site,
                pool: None,
                source: None,
                ready: 3,
                in_flight: 2,
                connections: 1,
                paused_until: None,
                why: "".into(),
                waits_for: "".into(),
                strands: Vec::new(),
            }]),
            Question::Message(id) if id == ID => Answer::Message(vec![Found {
                domain,
                recipients: vec![0],
                attempts: 4,
                labels: Labels::default(),
                pool: None,
                waits_for: "".into(),
            }]),
            Question::Message(_) => Answer::Message(Vec::new()),
            Question::Flush(_) => Answer::Flushed,
            Question::Order { .. } => Answer::Tally(Default::default()),
            Question::Counters => Answer::Counters(Counters {
                queued: 7,
                ..Counters::default()
            }),
            Question::Sites(_)
            | Question::Route(_)
            | Question::Complaint { .. }
            | Question::Standings { .. } => {
                unreachable!("nothing asks for it here")
            }
        };
        (ask.reply)(answer);
        Ok(())
    }

    fn shapes(&self) -> Arc<Shapes> {
        Arc::default()
    }

    fn set_override(&self, _: Wish, _: Moment) -> Result<(), NotSet> {
        Ok(())
    }

    fn cancel_override(&self, _: &Target, _: Moment) -> bool {
        false
    }

    fn acts(&self) -> Vec<Act> {
        Vec::new()
    }

    fn warmups(&self, _: Moment) -> Vec<Progress> {
        Vec::new()
    }

    fn sources(&self, _: Moment) -> Vec<SourceState> {
        Vec::new()
    }

    fn is_kept(&self) -> bool {
        true
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn why_not_ready(&self) -> String {
        String::new()
    }

    fn refresh(&self) {}
}

fn endpoint(token: Option<&str>) -> Control {
    let listener = control::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let options = Options {
        token: token.map(Secret::new),
        shards: 1,
        log: std::env::temp_dir(),
    };
    let (_, exposition) = meters(Mode::Commit);
    control::start(options, listener, Arc::new(Still), exposition).expect("a thread")
}

fn queue(control: &Control, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .arg("queue")
        .args(arguments)
        .args(["--http", &control.address().to_string()])
        .env_remove("POSTHASTE_HTTP_TOKEN")
        .output()
        .expect("the command runs")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).expect("UTF-8 is printed")
}

#[test]
fn an_operator_sees_why_mail_waits() {
    let control = endpoint(None);
    let listed = queue(&control, &["list"]);
    let out = text(&listed.stdout);
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    assert!(
        out.contains(
            "being delivered: 2 in flight on 1 connection; last trouble: 451 4.7.1 greylisted"
        ),
        "{out}"
    );
    assert!(out.ends_with("7 queued\n"), "{out}");
    let json = text(&queue(&control, &["list", "--json"]).stdout);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["domains"][0]["queued"], 7);
    let out = text(&queue(&control, &["show", &ID.to_string()]).stdout);
    assert!(out.contains("example.com         4  #1"), "{out}");
    let unknown = MessageId::from_u128(1).to_string();
    let unknown = queue(&control, &["show", &unknown]);
    assert_eq!(unknown.status.code(), Some(65));
    assert!(text(&unknown.stderr).contains("it is settled or was never here"));
    assert_eq!(
        text(&queue(&control, &["flush"]).stdout),
        "all queued mail is due\n"
    );
    for domain in ["example.com", "[192.0.2.1]"] {
        let flushed = queue(&control, &["flush", domain]);
        assert_eq!(
            text(&flushed.stdout),
            format!("queued mail for {domain} is due\n")
        );
    }
    control.stop();
}

#[test]
fn an_operator_without_the_token_is_told_so() {
    let control = endpoint(Some("sesame"));
    let barred = queue(&control, &["list"]);
    assert_eq!(barred.status.code(), Some(77));
    assert!(text(&barred.stderr).contains("a token is needed"));
    assert!(
        queue(&control, &["list", "--token", "sesame"])
            .status
            .success()
    );
    let address = control.address().to_string();
    control.stop();
    let gone = Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .args(["queue", "list", "--http", &address])
        .output()
        .unwrap();
    assert_eq!(gone.status.code(), Some(69));
}
