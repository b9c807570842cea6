//! The resolver against a real name server (nsd), such as lie or fall silent, and one asked by
//! crowds.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use posthaste::dns::{Options, Resolver};
use posthaste::rt;
use posthaste_core::route::Policy;
use posthaste_core::words::{Domain, Moment, Plan, RouteError};

use super::node::own_ip;
use super::nsd::NameServer;
use super::wait::PATIENCE;

const NOW: Moment = Moment::from_secs(1_800_000_000);
/// Equal MX records of `big.test.`: more than a UDP answer holds.
const BIG: usize = 120;

const ZONE: &str = "\
two MX 10 a
two MX 20 b
a A 203.0.113.1
b A 203.0.113.2
b AAAA 2001:db9::2
implicit A 203.0.113.3
null MX 0 .
alias CNAME two
";

fn resolver(server: SocketAddr, timeout: Duration) -> Resolver {
    let options = Options {
        resolvers: vec![server],
        timeout,
        attempts: 2,
        ..Options::default()
    };
    Resolver::new(options, Arc::new(Policy::default()))
}

async fn route(resolver: &Resolver, name: &str) -> Result<Arc<Plan>, RouteError> {
    let domain = Domain::parse(name).expect("a domain");
    resolver.resolve(&domain, NOW).await.0
}

fn addresses(plan: &Plan) -> Vec<String> {
    plan.hosts
        .iter()
        .map(|host| host.address.to_string())
        .collect()
}

#[test]
fn a_real_name_server_is_understood() {
    let mut zone = ZONE.to_owned();
    for host in 0..BIG {
        zone += &format!("big MX 10 a-rather-long-host-name-{host}\n");
        zone += &format!("a-rather-long-host-name-{host} A 203.0.113.9\n");
    }
    let Some(server) = NameServer::start(&zone) else {
        return;
    };
    rt::run(async {
        let resolver = resolver(server.address(), PATIENCE);
        let two = route(&resolver, "two.test").await.expect("two MX");
        assert_eq!(
            addresses(&two),
            ["203.0.113.1:25", "203.0.113.2:25", "[2001:db9::2]:25"]
        );
        let alias = route(&resolver, "alias.test")
            .await
            .expect("an alias of two MX");
        assert_eq!(alias.hosts, two.hosts);
        let implicit = route(&resolver, "implicit.test")
            .await
            .expect("an address is an MX");
        assert_eq!(addresses(&implicit), ["203.0.113.3:25"]);
        assert_eq!(route(&resolver, "null.test").await, Err(RouteError::NullMx));
        assert_eq!(
            route(&resolver, "gone.test").await,
            Err(RouteError::NoSuchDomain)
        );
        let big = route(&resolver, "big.test")
            .await
            .expect("TCP carries what UDP cannot");
        assert!(
            big.hosts
                .iter()
                .all(|host| host.address.ip().to_string() == "203.0.113.9")
        );
    })
    .expect("an executor");
}

#[test]
fn a_garbling_server_is_a_temporary_failure() {
    let server = Scripted::start(|seen, query| {
        let mut reply = query.to_vec();
        reply[2] |= QR;
        match seen {
            0 => reply[0] ^= 0xFF,
            1 => reply.clear(),
            2 => reply.truncate(7),
            _ => {
                // Two hundred answers that are pointers, where lengths ought to be too.
                reply[7] = 200;
                reply.truncate(12 + question_octets(query));
                reply.extend([0xC0, 0x0C].repeat(200));
            }
        }
        vec![reply]
    });
    let result = rt::run(async {
        let resolver = server.resolver(4);
        route(&resolver, "two.test").await
    });
    let result = result.expect("an executor");
    assert_eq!(result, Err(RouteError::Dns("malformed reply")));
    assert_eq!(server.end(), 4, "each round asks once");
}

#[test]
fn what_forgers_send_before_the_true_reply_counts_for_nothing() {
    let server = Scripted::start(|_, query| {
        // A forger would have the name gone.
        let forged = |at: usize, flip: u8| {
            let mut reply = coded(query, NXDOMAIN);
            reply[at] ^= flip;
            reply
        };
        vec![
            forged(0, 0x10),
            forged(1, 0x01),
            forged(2, QR),
            forged(13, 0x01),
            forged(12 + question_octets(query) - 3, 0x02),
            crowd_reply(query).1,
        ]
    });
    let result = rt::run(async { route(&server.resolver(1), "odd.test").await });
    let plan = result.expect("an executor").expect("the true reply counts");
    assert_eq!(addresses(&plan), ["203.0.113.1:25"]);
    assert_eq!(server.end(), 3, "MX, A and AAAA");
}

#[test]
fn another_server_is_asked_when_one_does_not_answer_and_stays_preferred() {
    for code in [Some(SERVFAIL), Some(REFUSED), None] {
        let first = Scripted::start(move |_, query| {
            let reply = code.map(|code| coded(query, code));
            reply.into_iter().collect()
        });
        let second = Scripted::start(|_, query| vec![crowd_reply(query).1]);
        let result = rt::run(async {
            let resolver = asking(vec![first.address, second.address], 1);
            route(&resolver, "odd.test").await
        });
        let plan = result.expect("an executor").expect("the second answers");
        assert_eq!(addresses(&plan), ["203.0.113.1:25"]);
        assert_eq!((first.end(), second.end()), (1, 3), "{code:?}");
    }
}

#[test]
fn a_server_that_knows_no_edns_is_asked_again_without() {
    for code in [FORMERR, NOTIMP] {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let server = Scripted::start(move |_, query| {
            // The OPT record is the only additional one.
            let has_edns = query[11] == 1;
            noted.lock().expect("no panic").push(has_edns);
            if has_edns {
                vec![coded(query, code)]
            } else {
                vec![crowd_reply(query).1]
            }
        });
        let result = rt::run(async { route(&server.resolver(1), "odd.test").await });
        let plan = result
            .expect("an executor")
            .expect("it answers what it knows");
        assert_eq!(addresses(&plan), ["203.0.113.1:25"]);
        assert_eq!(server.end(), 6, "MX, A and AAAA, each twice");
        let asked = asked.lock().expect("no panic");
        assert_eq!(asked[..2], [true, false]);
        assert_eq!(asked.iter().filter(|has_edns| **has_edns).count(), 3);
    }
}

#[test]
fn what_tcp_cuts_short_or_draws_out_is_a_temporary_failure_within_the_patience() {
    let claiming = |octets: u16| {
        move |query: &[u8]| [&octets.to_be_bytes()[..], &crowd_reply(query).1].concat()
    };
    let case = |what, end, tcp: TcpReply, said| (what, end, tcp, said);
    let gone = "name server is unreachable";
    let cases = [
        case("closed at once", End::Close, Box::new(|_| vec![]), gone),
        case("one octet", End::Close, Box::new(|_| vec![0]), gone),
        case("silent", End::Hold, Box::new(|_| vec![]), "timed out"),
        case(
            "too long, closed",
            End::Close,
            Box::new(claiming(9000)),
            gone,
        ),
        case("too long", End::Hold, Box::new(claiming(9000)), "timed out"),
        case(
            "too short",
            End::Hold,
            Box::new(claiming(30)),
            "malformed reply",
        ),
    ];
    for (what, end, tcp, said) in cases {
        let server = Scripted::start(|_, query| vec![truncated(query)]);
        let tcp = serve_tcp(server.address, end, tcp);
        let start = Instant::now();
        let result = rt::run(async { route(&server.resolver(1), "odd.test").await });
        let waited = start.elapsed();
        let result = result.expect("an executor");
        assert_eq!(result, Err(RouteError::Dns(said)), "{what}");
        assert!(waited < HELD, "{what}: {waited:?}");
        assert_eq!(server.end(), 1, "{what}");
        tcp.join().expect("the TCP side ends");
    }
}

/// For one try at a scripted server; nothing is waited for where it answers.
const SHORT: Duration = Duration::from_millis(400);
/// How long a TCP connection on which nothing more comes is held open.
const HELD: Duration = Duration::from_secs(5);
/// The first bit of a message's third octet.
const QR: u8 = 0x80;
const FORMERR: u8 = 1;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;

/// Sends by UDP what its script makes of each query.
struct Scripted {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Scripted {
    /// `script` is given the number of queries before this one.
    fn start(mut script: impl FnMut(usize, &[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        let address = SocketAddr::from((own_ip(), 5300));
        let socket = UdpSocket::bind(address).expect("an address of its own");
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("a timeout is set");
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut query = [0; 1500];
            let mut seen = 0;
            while !end.load(Ordering::Relaxed) {
                if let Ok((octets, from)) = socket.recv_from(&mut query) {
                    for reply in script(seen, &query[..octets]) {
                        let _ = socket.send_to(&reply, from);
                    }
                    seen += 1;
                }
            }
            seen
        });
        Self {
            address,
            ended,
            thread,
        }
    }

    fn resolver(&self, attempts: u32) -> Resolver {
        asking(vec![self.address], attempts)
    }

    /// The number of queries heard.
    fn end(self) -> usize {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("the name server ends")
    }
}

fn asking(resolvers: Vec<SocketAddr>, attempts: u32) -> Resolver {
    let options = Options {
        resolvers,
        timeout: SHORT,
        attempts,
        ..Options::default()
    };
    Resolver::new(options, Arc::new(Policy::default()))
}

/// What becomes of a TCP connection after the reply.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Close,
    /// Held open until the client closes, for [`HELD`] at most.
    Hold,
}

/// What a query by TCP is answered with.
type TcpReply = Box<dyn Fn(&[u8]) -> Vec<u8> + Send>;

/// Takes one query by TCP and sends what `reply` makes of it.
fn serve_tcp(address: SocketAddr, end: End, reply: TcpReply) -> JoinHandle<()> {
    let listener = TcpListener::bind(address).expect("an address of its own");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("TCP is asked");
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("a length");
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query).expect("a query");
        stream.write_all(&reply(&query)).expect("a reply is sent");
        if end == End::Hold {
            stream
                .set_read_timeout(Some(HELD))
                .expect("a timeout is set");
            let _ = stream.read(&mut length);
        }
    })
}

/// Octets of the question, which follows twelve of the header.
fn question_octets(query: &[u8]) -> usize {
    crowd_reply(query).0.len()
}

/// A reply without records.
fn coded(query: &[u8], code: u8) -> Vec<u8> {
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0]);
    reply.extend(crowd_reply(query).0);
    reply
}

/// What a server says whose answer does not fit.
fn truncated(query: &[u8]) -> Vec<u8> {
    let mut reply = coded(query, 0);
    reply[2] |= 0x02;
    reply
}

/// Domains resolved at once.
const CROWD: usize = 20_000;
/// Every second domain of the crowd has this MX host, the others each their own.
const SHARED: &str = "shared.test";
/// Questions the crowd has out at once: few, so that nearly all wait.
const PLACES: usize = 64;
/// Polls of one resolution: three questions, each with its wait at the gate and for an answer.
const POLLS_MAX: usize = 16;
/// For one try. The kernel may give two questions one port, and one of them then hears nothing.
const TRY_PATIENCE: Duration = Duration::from_secs(2);
/// Generous, for machines that do much else.
const CROWD_PATIENCE: Duration = Duration::from_secs(60);

/// Answers MX and A, has no AAAA, and remembers what it was asked.
struct CrowdServer {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Asked>,
}

/// What a name server was asked, and when last.
#[derive(Default)]
struct Asked {
    questions: HashMap<Vec<u8>, Instant>,
    /// Questions that came again sooner than a try lasts.
    doubled: usize,
}

impl Asked {
    fn note(&mut self, question: Vec<u8>) {
        let last = self.questions.insert(question, Instant::now());
        let is_doubled = last.is_some_and(|last| last.elapsed() < TRY_PATIENCE / 2);
        self.doubled += usize::from(is_doubled);
    }
}

impl CrowdServer {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a timeout is set");
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut asked = Asked::default();
            let mut query = [0; 1500];
            while !end.load(Ordering::Relaxed) {
                if let Ok((octets, from)) = socket.recv_from(&mut query) {
                    let (question, reply) = crowd_reply(&query[..octets]);
                    asked.note(question);
                    let _ = socket.send_to(&reply, from);
                }
            }
            asked
        });
        Self {
            address,
            ended,
            thread,
        }
    }

    fn end(self) -> Asked {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("the name server ends")
    }

    fn resolver(&self) -> Rc<Resolver> {
        let options = Options {
            resolvers: vec![self.address],
            timeout: TRY_PATIENCE,
            attempts: 4,
            queries_max: PLACES,
            ..Options::default()
        };
        Rc::new(Resolver::new(options, Arc::new(Policy::default())))
    }
}

/// The question in wire form, and the whole reply to it.
fn crowd_reply(query: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let length = query[12..]
        .iter()
        .position(|&octet| octet == 0)
        .expect("a name ends");
    let question = query[12..12 + length + 5].to_vec();
    let label = &question[1..=usize::from(question[0])];
    let data = match question[length + 2] {
        1 => vec![203, 0, 113, 1],
        15 if label.starts_with(b"even") => [&[0, 10][..], b"\x06shared\x04test\0"].concat(),
        15 => [b"\0\x0a\x02mx", &question[..=length]].concat(),
        _ => Vec::new(),
    };
    let is_answered = u8::from(!data.is_empty());
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80, 0, 1, 0, is_answered, 0, 0, 0, 0]);
    reply.extend(&question);
    if is_answered == 1 {
        reply.extend([0xC0, 12]);
        reply.extend(&question[length + 1..]);
        reply.extend(3600u32.to_be_bytes());
        reply.extend(u16::try_from(data.len()).expect("short data").to_be_bytes());
        reply.extend(data);
    }
    (question, reply)
}

fn crowd_name(number: usize) -> String {
    let kind = ["even", "odd"][number % 2];
    format!("{kind}{number}.test")
}

/// One task for each domain of the crowd; `polls` counts theirs.
fn start_crowd(
    resolver: &Rc<Resolver>,
    polls: &Rc<Cell<usize>>,
) -> Vec<rt::Task<Result<Arc<Plan>, RouteError>>> {
    let start = |number| {
        let (resolver, polls) = (Rc::clone(resolver), Rc::clone(polls));
        rt::spawn(async move {
            let name = crowd_name(number);
            let mut work = pin!(route(&resolver, &name));
            poll_fn(|context| {
                polls.set(polls.get() + 1);
                work.as_mut().poll(context)
            })
            .await
        })
    };
    (0..CROWD).map(start).collect()
}

fn assert_planned(number: usize, result: Result<Arc<Plan>, RouteError>) {
    let plan = result.expect("the server answers all");
    assert_eq!(addresses(&plan), ["203.0.113.1:25"]);
    let is_shared = *plan.hosts[0].name == *SHARED;
    assert_eq!(
        is_shared,
        number.is_multiple_of(2),
        "{}",
        crowd_name(number)
    );
}

#[test]
fn a_crowd_of_domains_costs_each_its_own_polls_and_no_question_is_out_twice() {
    let server = CrowdServer::start();
    let polls = Rc::new(Cell::new(0));
    let start = Instant::now();
    rt::run(async {
        let crowd = start_crowd(&server.resolver(), &polls);
        for (number, task) in crowd.into_iter().enumerate() {
            assert_planned(number, task.join().await);
        }
    })
    .expect("an executor");
    let elapsed = start.elapsed();
    let polls = polls.get();
    assert!(polls <= CROWD * POLLS_MAX, "{polls} polls");
    assert!(elapsed < CROWD_PATIENCE, "{elapsed:?}");
    let asked = server.end();
    // Each its MX; every second one the two addresses of its host; the shared host's once.
    let distinct = CROWD + CROWD / 2 * 2 + 2;
    assert_eq!((asked.questions.len(), asked.doubled), (distinct, 0));
}

#[test]
fn a_crowd_half_of_which_leaves_is_served_to_the_last() {
    let server = CrowdServer::start();
    let polls = Rc::new(Cell::new(0));
    rt::run(async {
        let resolver = server.resolver();
        let crowd = start_crowd(&resolver, &polls);
        while resolver.entries() < CROWD / 4 {
            rt::sleep(Duration::from_millis(1)).await;
        }
        let mut staying = Vec::new();
        for (number, task) in crowd.into_iter().enumerate() {
            // Of each kind, half stay.
            if number % 4 < 2 {
                staying.push((number, task));
            } else {
                drop(task);
            }
        }
        for (number, task) in staying {
            assert_planned(number, task.join().await);
        }
        let late = route(&resolver, &crowd_name(CROWD)).await;
        assert_planned(CROWD, late);
    })
    .expect("an executor");
    let polls = polls.get();
    assert!(polls <= CROWD * POLLS_MAX, "{polls} polls");
    server.end();
}
