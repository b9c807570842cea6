//! One question to the configured name servers: UDP with retries, TCP where UDP is too small.

use core::cell::Cell;
use core::hash::BuildHasher;
use core::net::SocketAddr;
use core::time::Duration;
use std::hash::RandomState;
use std::io;
use std::time::Instant;

use posthaste_core::route::{Answer, Query};

use super::flight::Gate;
use super::message::{BadReply, build_query, failure, parse_answer};
use crate::rt;

/// Name servers asked for one question; more are not used.
pub const RESOLVERS_MAX: usize = 8;
/// Stray datagrams passed over in one try: a flood of them must not keep us busy.
const STRAYS_MAX: usize = 64;
/// Larger than what we announce, so that a server that overdoes it is still heard.
const DATAGRAM_OCTETS_MAX: usize = 4096;

/// How name servers are asked and answers kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// At least one; the first [`RESOLVERS_MAX`] are used.
    pub resolvers: Vec<SocketAddr>,
    /// For one try at one server in the first round; in the second twice, from the third on four
    /// times as long.
    pub timeout: Duration,
    /// Rounds over all servers: each is asked once in a round.
    pub attempts: u32,
    pub ttl_min: Duration,
    pub ttl_max: Duration,
    pub negative_ttl_max: Duration,
    /// Answers kept per shard.
    pub entries_max: usize,
    /// Questions out at once per shard.
    pub queries_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resolvers: vec![SocketAddr::from(([127, 0, 0, 1], 53))],
            timeout: Duration::from_secs(3),
            attempts: 2,
            ttl_min: Duration::from_secs(5),
            ttl_max: Duration::from_secs(86_400),
            negative_ttl_max: Duration::from_secs(900),
            entries_max: 65_536,
            queries_max: 256,
        }
    }
}

/// Asks name servers. One per shard.
#[derive(Debug)]
pub(super) struct Client {
    options: Options,
    /// The server that answered last.
    preferred: Cell<usize>,
    gate: Gate,
    random: RandomState,
    drawn: Cell<u64>,
}

/// What a try at one server came to, when it is no answer.
enum Miss {
    Reply(BadReply),
    Silent,
    Network,
}

impl Client {
    pub(super) fn new(mut options: Options) -> Self {
        options.resolvers.truncate(RESOLVERS_MAX);
        Self {
            preferred: Cell::new(0),
            gate: Gate::new(options.queries_max.max(1)),
            random: RandomState::new(),
            drawn: Cell::new(0),
            options,
        }
    }

    pub(super) const fn options(&self) -> &Options {
        &self.options
    }

    /// A number a stranger cannot guess: a keyed hash (keys from the system) of a counter.
    pub(super) fn draw(&self) -> u64 {
        self.drawn.set(self.drawn.get().wrapping_add(1));
        self.random.hash_one(self.drawn.get())
    }

    fn draw_id(&self) -> u16 {
        let [a, b, ..] = self.draw().to_le_bytes();
        u16::from_le_bytes([a, b])
    }

    /// Asks until a server answers or all have failed `attempts` times.
    pub(super) async fn ask(&self, query: &Query) -> Answer {
        let _place = self.gate.enter().await;
        let servers = self.options.resolvers.len();
        let mut why = "no name server is configured";
        for round in 0..self.options.attempts.max(1) {
            let first = self.preferred.get();
            for step in 0..servers {
                let index = (first + step) % servers;
                let server = self.options.resolvers[index];
                // RFC 1035 §7.2 wants patience to grow.
                let patience = self.options.timeout.saturating_mul(1 << round.min(2));
                match self.ask_server(server, query, patience).await {
                    Ok(answer) => {
                        self.preferred.set(index);
                        return answer;
                    }
                    Err(Miss::Reply(BadReply::Unwilling(said))) => why = said,
                    Err(Miss::Reply(_)) => why = "malformed reply",
                    Err(Miss::Silent) => why = "timed out",
                    Err(Miss::Network) => why = "name server is unreachable",
                }
            }
        }
        failure(why)
    }

    async fn ask_server(
        &self,
        server: SocketAddr,
        query: &Query,
        patience: Duration,
    ) -> Result<Answer, Miss> {
        let write = |edns| {
            let unspeakable = Miss::Reply(BadReply::Unwilling("name cannot be asked"));
            let id = self.draw_id();
            let bytes = build_query(query, id, edns).ok_or(unspeakable)?;
            Ok::<_, Miss>(Question {
                server,
                query,
                id,
                bytes,
                patience,
            })
        };
        let mut question = write(true)?;
        let mut miss = question.ask_udp().await;
        if let Err(Miss::Reply(BadReply::NoEdns)) = miss {
            question = write(false)?;
            miss = question.ask_udp().await;
        }
        if let Err(Miss::Reply(BadReply::Truncated)) = miss {
            return match rt::timeout(patience, question.ask_tcp()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Miss::Silent),
            };
        }
        miss
    }
}

/// A query as it is put to one server.
struct Question<'a> {
    server: SocketAddr,
    query: &'a Query,
    id: u16,
    /// The wire form, under `id`.
    bytes: Vec<u8>,
    patience: Duration,
}

impl Question<'_> {
    async fn ask_udp(&self) -> Result<Answer, Miss> {
        // A fresh socket for each try: its random port is half of what a forger has to guess.
        let socket = rt::UdpSocket::connect(self.server)
            .await
            .map_err(|_| Miss::Network)?;
        socket.send(&self.bytes).await.map_err(|_| Miss::Network)?;
        let start = Instant::now();
        let mut buffer = vec![0; DATAGRAM_OCTETS_MAX];
        for _ in 0..STRAYS_MAX {
            let left = self.patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                break;
            }
            let length = match socket.recv(&mut buffer, left).await {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
                Err(_) => return Err(Miss::Network),
            };
            match parse_answer(&buffer[..length], self.query, self.id) {
                Ok(answer) => return Ok(answer),
                Err(BadReply::NotOurs) => {}
                Err(bad) => return Err(Miss::Reply(bad)),
            }
        }
        Err(Miss::Silent)
    }

    /// RFC 7766: the message behind its length in two octets.
    async fn ask_tcp(&self) -> Result<Answer, Miss> {
        let mut stream = rt::connect(self.server, rt::Exit::default(), self.patience)
            .await
            .map_err(|_| Miss::Network)?;
        let length = u16::try_from(self.bytes.len()).map_err(|_| Miss::Network)?;
        let framed = [&length.to_be_bytes(), self.bytes.as_slice()].concat();
        stream.write_all(&framed).await.map_err(|_| Miss::Network)?;
        let mut length = [0; 2];
        read_full(&mut stream, &mut length).await?;
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        read_full(&mut stream, &mut reply).await?;
        parse_answer(&reply, self.query, self.id).map_err(Miss::Reply)
    }
}

async fn read_full(stream: &mut rt::TcpStream, buffer: &mut [u8]) -> Result<(), Miss> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) => return Err(Miss::Network),
            Ok(count) => filled += count,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use posthaste_core::route::{RecordType, Status};
    use posthaste_core::words::Domain;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(20);

    fn heard(server: &UdpSocket) -> usize {
        server.set_nonblocking(true).unwrap();
        let mut datagram = [0; 1500];
        let next = || server.recv_from(&mut datagram).ok();
        core::iter::from_fn(next).count()
    }

    #[test]
    fn each_round_asks_each_server_once_with_growing_patience() {
        // Rounds, and the patience of all of them at one server.
        for (attempts, patiences) in [(1, 1), (2, 1 + 2), (4, 1 + 2 + 4 + 4)] {
            let servers = [(), ()].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
            let client = Client::new(Options {
                resolvers: servers.each_ref().map(|s| s.local_addr().unwrap()).into(),
                timeout: TIMEOUT,
                attempts,
                ..Options::default()
            });
            let query = Query {
                name: Domain::parse("two.test").unwrap(),
                kind: RecordType::Mx,
            };
            let start = Instant::now();
            let answer = rt::run(client.ask(&query)).unwrap();
            let waited = start.elapsed();
            assert_eq!(answer.status, Status::Failed("timed out"));
            let rounds = usize::try_from(attempts).unwrap();
            assert_eq!(servers.each_ref().map(heard), [rounds, rounds]);
            let least = TIMEOUT * patiences * 2;
            assert!(waited >= least, "{attempts} rounds took {waited:?}");
        }
    }
}
