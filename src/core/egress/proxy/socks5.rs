//! The client's side of SOCKS5: method, password (RFC 1929), CONNECT (RFC 1928). Octets in, actions
//! out; it takes no octet that belongs to the connection behind the proxy.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xFF;
/// Of the sub-negotiation of RFC 1929.
const PASSWORD_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
/// The longest answer: a reply with a name of 255 octets.
const ANSWER_OCTETS_MAX: usize = 4 + 1 + 255 + 2;
/// An octet counts the length of user, password and name.
const TEXT_OCTETS_MAX: usize = 255;

/// User and password, 1 to 255 octets each.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: Arc<str>,
    password: Arc<str>,
}

impl Login {
    /// `None` when one of them is empty or longer than 255 octets.
    pub fn new(user: &str, password: &str) -> Option<Self> {
        let is_fit = |text: &str| (1..=TEXT_OCTETS_MAX).contains(&text.len());
        (is_fit(user) && is_fit(password)).then(|| Self {
            user: user.into(),
            password: password.into(),
        })
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({}, …)", self.user)
    }
}

/// Whither the proxy is to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Address(SocketAddr),
    /// A name that the proxy looks up.
    Name(Arc<str>, u16),
}

/// What the owner of the connection is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write all of it.
    Send(Vec<u8>),
    /// What follows is the target's. The address is that from which the proxy connects, if it told.
    Established(Option<SocketAddr>),
    /// Close the connection.
    Failed(Refusal),
}

/// Whose trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The proxy does not work: it is of no use to anybody.
    Proxy,
    /// It does not serve us, whatever the target.
    Ours,
    /// It does not bring us to this target, which need not know of it.
    Way,
    /// The target cannot be reached.
    Target,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("not a SOCKS5 proxy")]
    NotSocks5,
    #[error("closed before it said whether we may use it")]
    ClosedEarly,
    #[error("silent")]
    SilentEarly,
    #[error("wants another authentication than it was offered")]
    NoMethod,
    #[error("user or password refused")]
    Password,
    /// Longer than 255 octets, or empty.
    #[error("the target's name is no name for SOCKS5")]
    TargetName,
    /// Reply 1.
    #[error("general SOCKS server failure")]
    General,
    /// Reply 2.
    #[error("connection not allowed by ruleset")]
    Ruleset,
    /// Reply 3.
    #[error("network unreachable")]
    NetworkUnreachable,
    /// Reply 4.
    #[error("host unreachable")]
    HostUnreachable,
    /// Reply 5.
    #[error("connection refused")]
    ConnectionRefused,
    /// Reply 6.
    #[error("TTL expired")]
    TtlExpired,
    /// Reply 7.
    #[error("CONNECT not supported")]
    Command,
    /// Reply 8.
    #[error("address type not supported")]
    AddressType,
    #[error("unknown reply {0}")]
    Unknown(u8),
    #[error("closed before it was connected")]
    ClosedLate,
    /// It is the proxy that waits for the target.
    #[error("no connection in time")]
    SilentLate,
}

impl Refusal {
    /// Only the first two are a reason to leave the proxy alone.
    pub const fn whose(self) -> Whose {
        match self {
            Self::NotSocks5 | Self::ClosedEarly | Self::SilentEarly => Whose::Proxy,
            Self::NoMethod | Self::Password | Self::Command => Whose::Ours,
            // Rules may be about the target; and proxies say 1, or nothing, of much that they know no
            // better code for. Were these held against the proxy, a domain that points to a barred
            // address could take it from all others.
            Self::TargetName
            | Self::General
            | Self::Ruleset
            | Self::AddressType
            | Self::Unknown(_)
            | Self::ClosedLate => Whose::Way,
            Self::NetworkUnreachable
            | Self::HostUnreachable
            | Self::ConnectionRefused
            | Self::TtlExpired
            | Self::SilentLate => Whose::Target,
        }
    }

    const fn of_reply(code: u8) -> Self {
        match code {
            1 => Self::General,
            2 => Self::Ruleset,
            3 => Self::NetworkUnreachable,
            4 => Self::HostUnreachable,
            5 => Self::ConnectionRefused,
            6 => Self::TtlExpired,
            7 => Self::Command,
            8 => Self::AddressType,
            other => Self::Unknown(other),
        }
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Method,
    Password,
    Reply,
    Over,
}

/// One per connection to a proxy.
#[derive(Debug)]
pub struct Handshake {
    phase: Phase,
    /// `None`: only to know whether the proxy serves us.
    target: Option<Target>,
    login: Option<Login>,
    answer: SmallVec<[u8; 32]>,
    actions: VecDeque<Action>,
}

impl Handshake {
    /// Asks for a connection to `target`. A login is offered besides none at all.
    pub fn new(target: Target, login: Option<Login>) -> Self {
        Self::start(Some(target), login)
    }

    /// Asks only whether the proxy serves us.
    pub fn probe(login: Option<Login>) -> Self {
        Self::start(None, login)
    }

    fn start(target: Option<Target>, login: Option<Login>) -> Self {
        let methods: &[u8] = match login {
            Some(_) => &[VERSION, 2, NO_AUTHENTICATION, PASSWORD],
            None => &[VERSION, 1, NO_AUTHENTICATION],
        };
        Self {
            phase: Phase::Method,
            target,
            login,
            answer: SmallVec::new(),
            actions: VecDeque::from([Action::Send(methods.to_vec())]),
        }
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Octets that may be read: more might be the target's. Zero when it is over.
    pub fn wanted(&self) -> usize {
        let length = match self.phase {
            Phase::Over => return 0,
            Phase::Method | Phase::Password => 2,
            Phase::Reply => self.reply_length(),
        };
        length - self.answer.len()
    }

    /// Whether the proxy serves us and waits for the target: it may take as long as that does.
    pub fn is_connecting(&self) -> bool {
        self.phase == Phase::Reply
    }

    /// How many of them it took; the rest is not for it.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while self.wanted() > 0 && taken < bytes.len() {
            let piece = &bytes[taken..];
            let piece = &piece[..piece.len().min(self.wanted())];
            self.answer.extend_from_slice(piece);
            taken += piece.len();
            // A wrong first octet needs no second one.
            if self.answer[0] != self.version() {
                self.fail(Refusal::NotSocks5);
            } else if self.wanted() == 0 {
                let answer = core::mem::take(&mut self.answer);
                self.take(&answer);
            }
        }
        taken
    }

    pub fn handle_closed(&mut self) {
        self.break_off(Refusal::ClosedEarly, Refusal::ClosedLate);
    }

    pub fn handle_timeout(&mut self) {
        self.break_off(Refusal::SilentEarly, Refusal::SilentLate);
    }

    fn break_off(&mut self, early: Refusal, late: Refusal) {
        match self.phase {
            Phase::Method | Phase::Password => self.fail(early),
            Phase::Reply => self.fail(late),
            Phase::Over => {}
        }
    }

    const fn version(&self) -> u8 {
        match self.phase {
            Phase::Password => PASSWORD_VERSION,
            Phase::Method | Phase::Reply | Phase::Over => VERSION,
        }
    }

    /// As far as known: the kind of address and, of a name, its length are told on the way. A refusal
    /// is over with its code: what follows says nothing, and some proxies do not send it.
    fn reply_length(&self) -> usize {
        match self.answer[..] {
            [_, code, ..] if code != 0 => 2,
            [] | [_] => 2,
            [_, _] | [_, _, _] => 4,
            [_, _, _, IPV4, ..] => 4 + 4 + 2,
            [_, _, _, IPV6, ..] => 4 + 16 + 2,
            [_, _, _, NAME] => 5,
            [_, _, _, NAME, length, ..] => 5 + usize::from(length) + 2,
            [_, _, _, _, ..] => 4,
        }
    }

    fn take(&mut self, answer: &[u8]) {
        match self.phase {
            Phase::Method => self.take_method(answer[1]),
            Phase::Password if answer[1] == 0 => self.request(),
            Phase::Password => self.fail(Refusal::Password),
            Phase::Reply if answer[1] == 0 => match bound(answer) {
                Ok(bound) => self.end(Action::Established(bound)),
                Err(refusal) => self.fail(refusal),
            },
            Phase::Reply => self.fail(Refusal::of_reply(answer[1])),
            Phase::Over => {}
        }
    }

    fn take_method(&mut self, method: u8) {
        match (method, &self.login) {
            (NO_AUTHENTICATION, _) => self.request(),
            (PASSWORD, Some(login)) => {
                let mut words = vec![PASSWORD_VERSION];
                push_counted(&mut words, &login.user);
                push_counted(&mut words, &login.password);
                self.actions.push_back(Action::Send(words));
                self.phase = Phase::Password;
            }
            (NO_METHOD, _) => self.fail(Refusal::NoMethod),
            // One that was not offered.
            _ => self.fail(Refusal::NotSocks5),
        }
    }

    fn request(&mut self) {
        let Some(target) = &self.target else {
            return self.end(Action::Established(None));
        };
        let mut words = vec![VERSION, CONNECT, 0];
        let port = match target {
            Target::Address(address) => {
                match address.ip() {
                    IpAddr::V4(ip) => {
                        words.push(IPV4);
                        words.extend_from_slice(&ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        words.push(IPV6);
                        words.extend_from_slice(&ip.octets());
                    }
                }
                address.port()
            }
            Target::Name(name, port) => {
                if !(1..=TEXT_OCTETS_MAX).contains(&name.len()) {
                    return self.fail(Refusal::TargetName);
                }
                words.push(NAME);
                push_counted(&mut words, name);
                *port
            }
        };
        words.extend_from_slice(&port.to_be_bytes());
        self.actions.push_back(Action::Send(words));
        self.phase = Phase::Reply;
    }

    fn fail(&mut self, refusal: Refusal) {
        self.end(Action::Failed(refusal));
    }

    fn end(&mut self, action: Action) {
        self.phase = Phase::Over;
        self.actions.push_back(action);
    }
}

fn push_counted(words: &mut Vec<u8>, text: &str) {
    words.push(u8::try_from(text.len()).expect("the length was checked"));
    words.extend_from_slice(text.as_bytes());
}

/// BND.ADDR and BND.PORT of a whole reply. Names and the unspecified address say nothing.
fn bound(reply: &[u8]) -> Result<Option<SocketAddr>, Refusal> {
    let port = |low: usize| u16::from_be_bytes([reply[low], reply[low + 1]]);
    let (ip, port) = match reply[3] {
        IPV4 => {
            let octets: [u8; 4] = reply[4..8].try_into().expect("four octets");
            (IpAddr::V4(Ipv4Addr::from(octets)), port(8))
        }
        IPV6 => {
            let octets: [u8; 16] = reply[4..20].try_into().expect("sixteen octets");
            (IpAddr::V6(Ipv6Addr::from(octets)), port(20))
        }
        NAME => return Ok(None),
        _ => return Err(Refusal::NotSocks5),
    };
    Ok(Some(SocketAddr::new(ip, port)).filter(|_| !ip.is_unspecified()))
}

const _: () = assert!(ANSWER_OCTETS_MAX == 262);

#[cfg(test)]
#[path = "socks5_tests.rs"]
mod tests;
