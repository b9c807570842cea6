//! The endpoint over real sockets, with a node that is made up.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use posthaste_core::dispatch::{
    Act, Counters, DomainRow, Found, LaneRow, Shapes, SourceRow, Suspension,
};
use posthaste_core::egress::{Fault, Progress, Proxy, Score, Source, SourceId, Standing};
use posthaste_core::shaping::{NotSet, Wish};
use posthaste_core::words::{
    Domain, Host, Labels, MessageId, Moment, Plan, RouteError, ShardId, SiteName,
};
use serde_json::Value;

use super::desk::whose_of;
use super::*;
use crate::config::Secret;
use crate::delivery::{Seat, SourceState};
use crate::mesh::{Answer, Ask, Question};
use crate::observe::{Mode, meters};

/// How a shard of the fake treats questions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Answers,
    /// Takes them and says nothing.
    Silent,
    /// Its inbox is full.
    Full,
    /// Drops them, as one that ends does.
    Ended,
}

/// Each shard that was asked to flush, and what.
type Flushes = Mutex<Vec<(u16, Option<Domain>)>>;

pub(super) struct Fake {
    shards: Vec<Mutex<Sender<Ask>>>,
    manners: Arc<Vec<Mutex<Manner>>>,
    ready: AtomicBool,
    refreshed: AtomicUsize,
    flushed: Arc<Flushes>,
    shapes: Mutex<Arc<Shapes>>,
}

impl Node for Fake {
    fn ask(&self, shard: ShardId, ask: Ask) -> Result<(), Ask> {
        let shard = usize::from(shard.0);
        if *self.manners[shard].lock().unwrap() == Manner::Full {
            return Err(ask);
        }
        let post = self.shards[shard].lock().unwrap();
        post.send(ask).map_err(|unsent| unsent.0)
    }

    fn shapes(&self) -> Arc<Shapes> {
        Arc::clone(&self.shapes.lock().unwrap())
    }

    fn set_override(&self, wish: Wish, now: Moment) -> Result<(), NotSet> {
        let mut shapes = self.shapes.lock().unwrap();
        let mut overrides = shapes.overrides.clone();
        overrides.set(wish, now)?;
        *shapes = Arc::new(Shapes {
            overrides,
            ..Shapes::default()
        });
        Ok(())
    }

    fn is_kept(&self) -> bool {
        true
    }

    fn cancel_override(&self, target: &Target, _: Moment) -> bool {
        let mut shapes = self.shapes.lock().unwrap();
        let mut overrides = shapes.overrides.clone();
        let found = target.cancel(&mut overrides);
        *shapes = Arc::new(Shapes {
            overrides,
            ..Shapes::default()
        });
        !found.is_empty()
    }

    fn acts(&self) -> Vec<Act> {
        Vec::new()
    }

    fn warmups(&self, _: Moment) -> Vec<Progress> {
        vec![Progress {
            source: "out1".into(),
            provider: "others".into(),
            day: 2,
            days: 20,
            sent: 7,
            cap: Some(100),
        }]
    }

    fn sources(&self, _: Moment) -> Vec<SourceState> {
        let of = |name: &str, id| SourceState {
            source: Source::new(name, None),
            id,
            suspension: None,
            seats: Vec::new(),
            scores: Vec::new(),
            warmups: Vec::new(),
        };
        let mut young = of("out1", Some(SourceId(0)));
        young.source.address = Some("192.0.2.1".parse().unwrap());
        young.source.ehlo = Domain::parse("out1.example.com").ok();
        young.suspension = Some(Suspension {
            until: Moment::from_secs(10),
            why: "not on this host".into(),
        });
        young.seats = vec![Seat {
            pool: "bulk".into(),
            weight: 3,
            off_hours: Some(1),
        }];
        young.scores = vec![("google".into(), Score::new(870))];
        young.warmups = self.warmups(Moment::default());
        let mut proxied = of("out2", Some(SourceId(1)));
        proxied.source.proxy = Some(Proxy::Socks5 {
            server: "10.0.0.6:1080".parse().unwrap(),
            login: None,
        });
        vec![young, proxied, of("old", None)]
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn why_not_ready(&self) -> String {
        "recovery is under way".into()
    }

    fn refresh(&self) {
        self.refreshed.fetch_add(1, Ordering::Relaxed);
    }
}

const ID: u128 = 0x0190_0000_0000_0001_0000_0000_0000_002A;

fn aside() -> SourceRow {
    SourceRow {
        pool: "default".into(),
        source: "out1".into(),
        weight: 3,
        off_hours: None,
        standing: Standing::Aside {
            until: Moment::from_secs(1),
            fault: Fault::Address,
        },
        suspended: None,
        score: 870,
    }
}

fn lane(paused_until: Option<Moment>) -> LaneRow {
    LaneRow {
        site: SiteName::new("mx.example.com"),
        pool: None,
        source: None,
        ready: 5,
        in_flight: 2,
        connections: 1,
        paused_until,
        why: "".into(),
        waits_for: "".into(),
        strands: Vec::new(),
    }
}

fn domain_rows(shard: u16, paused_until: Option<Moment>) -> Vec<DomainRow> {
    let domain = |name: &str| Domain::parse(name).unwrap();
    vec![
        DomainRow {
            domain: domain("example.com"),
            site: Some(SiteName::new("mx.example.com")),
            queued: 10 + usize::from(shard),
            paused_until,
            why: "451 4.7.1 slow down".into(),
            waits_for: "".into(),
        },
        DomainRow {
            domain: domain(&format!("only{shard}.example")),
            site: None,
            queued: 1,
            paused_until: None,
            why: "".into(),
            waits_for: "message rate of provider p".into(),
        },
    ]
}

fn answer(shard: u16, question: Question, flushed: &Flushes) -> Answer {
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let pause = (shard == 1).then(|| Moment::default() + now + Duration::from_secs(90));
    match question {
        Question::Domains { .. } => Answer::Domains(domain_rows(shard, pause)),
        Question::Lanes { .. } => Answer::Lanes(vec![lane(pause)]),
        Question::Message(id) => Answer::Message(if shard == 1 && id == MessageId::from_u128(ID) {
            vec![Found {
                domain: Domain::parse("example.com").unwrap(),
                recipients: vec![0, 3],
                attempts: 2,
                labels: Labels::default(),
                pool: None,
                waits_for: "".into(),
            }]
        } else {
            Vec::new()
        }),
        Question::Flush(domain) => {
            flushed.lock().unwrap().push((shard, domain));
            Answer::Flushed
        }
        Question::Order { whose, order } => {
            assert_eq!(whose.domain.as_deref(), Some("example.com"));
            let is_count = order == posthaste_core::dispatch::Order::Count;
            Answer::Tally(posthaste_core::dispatch::Tally {
                entries: if is_count { 5 } else { 1 },
                recipients: 2,
            })
        }
        Question::Counters => Answer::Counters(Counters {
            delivered: 100,
            queued: 11 + usize::from(shard),
            held_octets: 1000,
            ..Counters::default()
        }),
        Question::Sites(_) => unreachable!("the endpoint does not ask for it"),
        Question::Standings { .. } => Answer::Standings(vec![aside()]),
        Question::Complaint { source, provider } => {
            assert_eq!((shard, source, &*provider), (0, SourceId(0), "others"));
            Answer::Complained
        }
        Question::Route(domain) if domain.as_str() == "nowhere.example" => {
            Answer::Route(Err(RouteError::NullMx))
        }
        Question::Route(_) => Answer::Route(Ok(Arc::new(Plan {
            site: SiteName::new("mx.example.com"),
            names: "mx.example.com 25".into(),
            mx_hosts: vec!["mx.example.com".into()],
            hosts: vec![Host {
                name: "mx.example.com".into(),
                address: "192.0.2.1:25".parse().unwrap(),
                preference: 10,
            }],
        }))),
    }
}

/// A control with its fake node; both end with it.
pub(super) struct Bench {
    control: Option<Control>,
    fake: Option<Arc<Fake>>,
    threads: Vec<JoinHandle<()>>,
    address: SocketAddr,
    /// Where the delivery log is.
    pub(super) log: tempfile::TempDir,
}

pub(super) fn bench(shards: u16, token: Option<&str>) -> Bench {
    let manners: Vec<_> = (0..shards).map(|_| Mutex::new(Manner::Answers)).collect();
    let manners = Arc::new(manners);
    let flushed = Arc::new(Flushes::default());
    let mut posts = Vec::new();
    let mut threads = Vec::new();
    for shard in 0..shards {
        let (post, inbox) = mpsc::channel::<Ask>();
        posts.push(Mutex::new(post));
        let (manners, flushed) = (Arc::clone(&manners), Arc::clone(&flushed));
        threads.push(thread::spawn(move || {
            let mut kept = Vec::new();
            for ask in inbox {
                let manner = *manners[usize::from(shard)].lock().unwrap();
                match manner {
                    Manner::Answers => (ask.reply)(answer(shard, ask.question, &flushed)),
                    Manner::Silent => kept.push(ask),
                    Manner::Full | Manner::Ended => {}
                }
            }
        }));
    }
    let fake = Arc::new(Fake {
        shards: posts,
        manners,
        ready: AtomicBool::new(true),
        refreshed: AtomicUsize::new(0),
        flushed,
        shapes: Mutex::default(),
    });
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let log = tempfile::tempdir().unwrap();
    let options = Options {
        token: token.map(Secret::new),
        shards,
        log: log.path().to_path_buf(),
    };
    let (_meters, exposition) = meters(Mode::Commit);
    let node: Arc<dyn Node> = fake.clone();
    let control = start(options, listener, node, exposition).unwrap();
    Bench {
        address: control.address(),
        control: Some(control),
        fake: Some(fake),
        threads,
        log,
    }
}

impl Bench {
    pub(super) fn fake(&self) -> &Fake {
        self.fake.as_ref().unwrap()
    }

    fn set(&self, shard: usize, manner: Manner) {
        *self.fake().manners[shard].lock().unwrap() = manner;
    }

    /// Status, header section and body of an answer.
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (u16, String, String) {
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        self.send(request.as_bytes())
    }

    fn send(&self, octets: &[u8]) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        // The answer may come, and the connection go, before all is sent.
        let _ = stream.write_all(octets);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        (status.unwrap_or(0), head.to_lowercase(), body.to_owned())
    }

    pub(super) fn json(&self, method: &str, path: &str) -> (u16, Value) {
        let (status, head, body) = self.ask(method, path, &[]);
        assert!(head.contains("content-type: application/json"), "{head}");
        (status, serde_json::from_str(&body).unwrap())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(control) = self.control.take() {
            control.stop();
        }
        let fake = Arc::into_inner(self.fake.take().unwrap());
        drop(fake.expect("a stopped endpoint holds no node"));
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

#[test]
fn health_and_readiness_are_told_apart() {
    let bench = bench(1, None);
    let (status, body) = bench.json("GET", "/health");
    assert_eq!((status, body["status"].as_str()), (200, Some("alive")));
    assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(bench.json("GET", "/ready").0, 200);
    bench.fake().ready.store(false, Ordering::Relaxed);
    let (status, body) = bench.json("GET", "/ready");
    assert_eq!(
        (status, body["error"].as_str()),
        (503, Some("recovery is under way"))
    );
    assert_eq!(bench.json("GET", "/health").0, 200);
}

#[test]
fn metrics_are_the_sum_over_shards_and_never_go_back() {
    let bench = bench(3, Some("sesame"));
    let (status, head, body) = bench.ask("GET", "/metrics", &[]);
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(
        body.contains("posthaste_recipients_total{outcome=\"delivered\"} 300\n"),
        "{body}"
    );
    assert!(body.contains("posthaste_queue_entries 36\n"));
    assert_eq!(bench.fake().refreshed.load(Ordering::Relaxed), 1);
    bench.set(1, Manner::Silent);
    let asked = Instant::now();
    let (status, _, body) = bench.ask("GET", "/metrics", &[]);
    assert!((900..3000).contains(&asked.elapsed().as_millis()));
    assert_eq!(status, 200);
    assert!(body.contains("posthaste_recipients_total{outcome=\"delivered\"} 300\n"));
    assert!(body.contains("posthaste_silent_shards_total 1\n"), "{body}");
    bench.set(1, Manner::Ended);
    bench.set(2, Manner::Full);
    let asked = Instant::now();
    let (_, _, body) = bench.ask("GET", "/metrics", &[]);
    assert!(
        asked.elapsed() < Duration::from_millis(900),
        "nobody to wait for"
    );
    assert!(body.contains("posthaste_silent_shards_total 3\n"), "{body}");
}

#[test]
fn two_nodes_of_a_process_show_their_own_numbers() {
    let (one, other) = (bench(1, None), bench(2, None));
    for (bench, line) in [(&one, "entries 11\n"), (&other, "entries 23\n")] {
        let (_, _, body) = bench.ask("GET", "/metrics", &[]);
        assert!(body.contains(line), "{body}");
    }
}

#[test]
fn the_queue_is_that_of_all_shards() {
    let bench = bench(2, None);
    let (status, body) = bench.json("GET", "/api/admin/queue/v1?limit=2");
    assert_eq!(status, 200);
    assert_eq!(body["queued"], 23);
    assert_eq!(body["truncated"], true);
    let first = &body["domains"][0];
    assert_eq!(first["domain"], "example.com");
    assert_eq!(first["queued"], 21);
    assert_eq!(first["site"], "mx.example.com");
    assert_eq!(first["why"], "451 4.7.1 slow down");
    assert!(
        (80..=90).contains(&first["paused_seconds"].as_u64().unwrap()),
        "{body}"
    );
    assert!(first["paused_until"].as_str().unwrap().ends_with('Z'));
    assert_eq!(body["domains"].as_array().unwrap().len(), 2);
    assert_eq!(body["lanes"].as_array().unwrap().len(), 2);
    assert_eq!(body["lanes"][0]["in_flight"], 2);
    assert_eq!(body["silent_shards"], serde_json::json!([]));
    bench.set(0, Manner::Ended);
    let (status, body) = bench.json("GET", "/api/admin/queue/v1");
    assert_eq!((status, body["silent_shards"][0].as_u64()), (200, Some(0)));
    assert_eq!(body["truncated"], false);
    for bad in ["limit=x", "limit=-1", "limt=1"] {
        let (status, body) = bench.json("GET", &format!("/api/admin/queue/v1?{bad}"));
        assert_eq!(status, 400, "{body}");
        assert!(body["error"].is_string());
    }
}

#[test]
fn a_message_is_found_on_whatever_shard_it_is() {
    let bench = bench(2, None);
    let id = MessageId::from_u128(ID);
    let path = format!("/api/admin/message/v1/{id}");
    let (status, body) = bench.json("GET", &path);
    assert_eq!(
        (status, body["id"].as_str()),
        (200, Some(id.to_string().as_str()))
    );
    let work = &body["work"][0];
    assert_eq!(work["recipients"], serde_json::json!([0, 3]));
    assert_eq!(
        (work["shard"].as_u64(), work["attempts"].as_u64()),
        (Some(1), Some(2))
    );
    assert_eq!(work["why"], "451 4.7.1 slow down");
    assert!(work["paused_seconds"].is_u64());
    let other = MessageId::from_u128(7);
    let path = format!("/api/admin/message/v1/{other}");
    assert_eq!(bench.json("GET", &path).0, 404);
    bench.set(0, Manner::Full);
    let (status, body) = bench.json("GET", &path);
    assert_eq!(status, 504, "it may be there: {body}");
    assert_eq!(bench.json("GET", "/api/admin/message/v1/nonsense").0, 400);
}

#[test]
fn a_domain_is_named_in_any_of_its_ways_of_writing() {
    for text in ["B\u{fc}cher.example", "XN--bcher-kva.example"] {
        let Ok(whose) = whose_of(None, None, Some(text)) else {
            panic!("{text}");
        };
        assert_eq!(whose.domain.as_deref(), Some("xn--bcher-kva.example"));
    }
    let bench = bench(1, None);
    for path in ["queue/v1", "queue/requeue/v1"] {
        let method = if path == "queue/v1" { "GET" } else { "POST" };
        let (status, body) = bench.json(method, &format!("/api/admin/{path}?domain=a..b"));
        let error = body["error"].as_str().unwrap();
        assert!(status == 400 && error.contains("a..b"), "{body}");
    }
}

#[test]
fn an_order_is_counted_first_and_names_whose_mail_it_is_about() {
    let bench = bench(2, None);
    let of = "/api/admin/queue/bounce/v1?domain=Example.COM&tenant=acme";
    let (status, body) = bench.json("POST", of);
    assert_eq!((status, body["done"].as_bool()), (200, Some(false)));
    assert_eq!(body["entries"], 10);
    // Of both shards, twice: what was between them is found the second time.
    let (status, body) = bench.json("POST", &format!("{of}&reason=x&yes=true"));
    assert_eq!((status, body["done"].as_bool()), (200, Some(true)));
    assert_eq!(
        (&body["entries"], &body["recipients"]),
        (&4.into(), &8.into())
    );
    let (status, body) = bench.json("POST", &format!("{of}&yes=true"));
    let error = body["error"].as_str().unwrap();
    assert!(status == 400 && error.contains("reason"), "{body}");
    let requeue = "/api/admin/queue/requeue/v1";
    let (status, body) = bench.json("POST", &format!("{requeue}?domain=example.com&yes=true"));
    assert_eq!((status, &body["entries"]), (200, &2.into()));
    assert_eq!(bench.json("POST", requeue).0, 400);
    bench.set(1, Manner::Ended);
    assert_eq!(bench.json("POST", of).0, 504);
}

#[test]
fn a_flush_reaches_all_shards_or_says_which_it_did_not() {
    let bench = bench(2, None);
    let (status, body) = bench.json("POST", "/api/admin/flush/v1?domain=Example.COM");
    assert_eq!(
        (status, body["domain"].as_str()),
        (200, Some("example.com"))
    );
    let domain = Domain::parse("example.com").unwrap();
    let mut flushed = std::mem::take(&mut *bench.fake().flushed.lock().unwrap());
    flushed.sort();
    assert_eq!(flushed, [(0, Some(domain.clone())), (1, Some(domain))]);
    assert_eq!(bench.json("POST", "/api/admin/flush/v1").0, 200);
    assert_eq!(bench.fake().flushed.lock().unwrap().len(), 2);
    assert_eq!(bench.json("POST", "/api/admin/flush/v1?domain=a..b").0, 400);
    bench.set(1, Manner::Ended);
    let (status, body) = bench.json("POST", "/api/admin/flush/v1");
    assert_eq!(status, 504);
    assert!(
        body["error"].as_str().unwrap().contains("shard 1"),
        "{body}"
    );
}

#[test]
fn what_is_not_there_is_told_in_json() {
    let bench = bench(1, None);
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/api/admin/nothing", 404),
        ("GET", "/api/admin/message/v1/", 404),
        ("POST", "/health", 405),
        ("DELETE", "/api/admin/queue/v1", 405),
        ("GET", "/api/admin/flush/v1", 405),
    ] {
        let (got, body) = bench.json(method, path);
        assert_eq!(got, status, "{method} {path}");
        assert!(body["error"].is_string(), "{method} {path}: {body}");
    }
}

#[test]
fn admin_is_for_the_bearer_of_the_token() {
    let bench = bench(1, Some("sesame"));
    let paths = [
        ("GET", "/api/admin/queue/v1"),
        ("GET", "/api/admin/message/v1/x"),
        ("POST", "/api/admin/flush/v1"),
        ("GET", "/api/admin/flush/v1"),
    ];
    for (method, path) in paths {
        for token in [None, Some("Bearer wrong"), Some("Basic sesame")] {
            let header = token.map(|token| ("Authorization", token));
            let (status, head, body) = bench.ask(method, path, header.as_slice());
            assert_eq!(status, 401, "{method} {path}");
            assert!(head.contains("www-authenticate: bearer"), "{head}");
            assert!(body.contains("\"error\":"), "{body}");
        }
    }
    assert_eq!(bench.fake().flushed.lock().unwrap().len(), 0);
    let bearer = ("Authorization", "Bearer sesame");
    assert_eq!(bench.ask("GET", "/api/admin/queue/v1", &[bearer]).0, 200);
    assert_eq!(bench.ask("GET", "/health", &[]).0, 200);
}

#[test]
fn a_browser_lured_from_elsewhere_flushes_nothing() {
    let bench = bench(1, None);
    for headers in [
        [("Origin", "http://evil.example")].as_slice(),
        &[("Origin", "null")],
        &[("Host", "evil.example")],
        &[("Host", "evil.example"), ("Origin", "http://evil.example")],
        &[("X-Forwarded-For", "192.0.2.1")],
    ] {
        let (status, _, body) = bench.ask("POST", "/api/admin/flush/v1", headers);
        assert_eq!(status, 403, "{headers:?}: {body}");
    }
    assert_eq!(bench.fake().flushed.lock().unwrap().len(), 0);
    let own = format!("http://{}", bench.address);
    let (status, _, _) = bench.ask("POST", "/api/admin/flush/v1", &[("Origin", &own)]);
    assert_eq!(status, 200);
}

#[test]
fn garbage_hurts_nobody() {
    let bench = bench(1, None);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(10_000));
    let body = vec![b'x'; 100_000];
    let post = "POST /api/admin/flush/v1 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n";
    let known = [post.as_bytes(), b"Content-Length: 100000\r\n\r\n", &body].concat();
    let chunked = [
        post.as_bytes(),
        b"Transfer-Encoding: chunked\r\n\r\n186a0\r\n",
        &body,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    let broken = [post.as_bytes(), b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"].concat();
    for (octets, statuses) in [
        (b"\0\x01\x02\xFF\r\n\r\n".as_slice(), [400, 0]),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            [400, 0],
        ),
        (b"EHLO client.example\r\nMAIL FROM:<a@b>\r\n\r\n", [400, 0]),
        (b"GET / HTTP/9.9\r\n\r\n", [400, 505]),
        (long.as_bytes(), [414, 431]),
        (headers.as_bytes(), [431, 400]),
        (&known, [413, 413]),
        (&chunked, [413, 413]),
        (&broken, [413, 400]),
    ] {
        let (status, head, _) = bench.send(octets);
        assert!(statuses.contains(&status), "{status} {head}");
    }
    assert_eq!(bench.fake().flushed.lock().unwrap().len(), 0);
    assert_eq!(bench.json("GET", "/health").0, 200);
}

#[test]
fn a_body_that_fits_is_read_and_ignored() {
    let bench = bench(1, None);
    let post = "POST /api/admin/flush/v1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let (status, _, rest) = bench.send(post.as_bytes());
    assert_eq!(status, 200);
    assert!(rest.contains("alive"), "{rest}");
}

#[test]
fn an_address_in_use_is_told_at_once() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = bind(listener.local_addr().unwrap()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn a_stop_leaves_no_thread_and_no_port() {
    let mut bench = bench(1, None);
    bench.set(0, Manner::Silent);
    let mut idle = TcpStream::connect(bench.address).unwrap();
    let mut half = TcpStream::connect(bench.address).unwrap();
    half.write_all(b"GET /metr").unwrap();
    let mut waiting = TcpStream::connect(bench.address).unwrap();
    waiting
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    thread::sleep(Duration::from_millis(100));
    let asked = Instant::now();
    bench.control.take().unwrap().stop();
    assert!(asked.elapsed() < Duration::from_secs(4));
    let mut text = String::new();
    waiting.read_to_string(&mut text).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200"),
        "a request under way is answered: {text}"
    );
    let mut rest = Vec::new();
    let _ = idle.read_to_end(&mut rest);
    let _ = half.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    drop(bind(bench.address).unwrap());
}

#[test]
fn shaping_is_explained_with_its_places_and_overrides_come_and_go() {
    let bench = bench(2, None);
    let explain = "/api/admin/shaping/explain/v1?domain=Example.com";
    let (status, said) = bench.json("GET", explain);
    assert_eq!(status, 200, "{said}");
    assert_eq!(said["site"], "mx.example.com");
    let of = |said: &Value, name: &str| {
        let limits = said["limits"].as_array().unwrap();
        let found = limits
            .iter()
            .find(|row| row["limit"].as_str().unwrap().starts_with(name));
        found.cloned().unwrap_or_default()
    };
    let connections = of(&said, "connections of lane");
    assert_eq!(connections["amount"], "32");
    let place = connections["place"].as_str().unwrap();
    assert!(place.starts_with("shaping/default.toml:"), "{place}");
    assert_eq!(
        said["lanes"].as_array().unwrap().len(),
        2,
        "one on each shard"
    );
    let source = &said["sources"][0];
    assert_eq!(
        (&source["source"], &source["score"]),
        (&"out1".into(), &870.into())
    );
    assert_eq!(
        (&source["standing"], &source["fault"]),
        (&"aside".into(), &"address".into())
    );
    assert_eq!(source["warmup"]["cap_today"], 100);
    let (_, said) = bench.json("GET", "/api/admin/warmup/v1");
    assert_eq!(said["warmups"][0]["sent_today"], 7);

    let set = "/api/admin/shaping/override/v1?kind=site&name=mx.example.com&key=connection_limit\
               &value=3&seconds=60&reason=they%20asked";
    assert_eq!(bench.json("POST", set).0, 200);
    let (_, said) = bench.json("GET", explain);
    assert_eq!(of(&said, "connections of lane")["amount"], "3");
    assert_eq!(said["overrides"][0]["reason"], "they asked");
    let (_, all) = bench.json("GET", "/api/admin/shaping/override/v1");
    assert_eq!(all["overrides"][0]["target"], "site mx.example.com");

    let cancel =
        "/api/admin/shaping/override/v1?kind=site&name=mx.example.com&key=connection_limit";
    assert_eq!(bench.json("DELETE", cancel).0, 200);
    assert_eq!(bench.json("DELETE", cancel).0, 404);
    let (_, said) = bench.json("GET", explain);
    assert_eq!(of(&said, "connections of lane")["amount"], "32");
}

#[test]
fn what_is_wrong_with_an_override_or_a_domain_is_told() {
    let bench = bench(1, None);
    let set = |rest: &str| {
        let path = format!("/api/admin/shaping/override/v1?{rest}");
        let (status, said) = bench.json("POST", &path);
        (
            status,
            said["error"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let (status, said) = set("kind=site&name=x&key=conection_limit&value=3&seconds=60");
    assert!(status == 400 && said.contains("connection_limit"), "{said}");
    let (status, said) = set("kind=site&name=x&key=connection_limit&value=-3&seconds=60");
    assert!(status == 400 && said.contains("negative"), "{said}");
    let (status, said) = set("kind=planet&name=x&key=connection_limit&value=3&seconds=60");
    assert!(status == 400 && said.contains("provider"), "{said}");
    let (status, said) = set("kind=site&name=x&key=connection_limit&value=3&seconds=0");
    assert!(status == 400 && said.contains("passed"), "{said}");
    let (status, said) = bench.json(
        "GET",
        "/api/admin/shaping/explain/v1?domain=nowhere.example",
    );
    assert!(
        status == 404 && said["error"].as_str().unwrap().contains("null MX"),
        "{said}"
    );
    let (status, _) = bench.json("GET", "/api/admin/shaping/explain/v1?domain=..");
    assert_eq!(status, 400);
}
