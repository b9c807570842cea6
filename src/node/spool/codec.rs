//! How rows are written: keys, envelopes, recipient states. The first octet of each value is its
//! version. Reading never panics: whatever a row holds, it is decoded or it is [`Torn`].

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use posthaste_core::words::{
    Address, BodyKind, Content, Domain, Envelope, Labels, Message, MessageId, Moment, Notify,
    Reception, Recipient, RecipientState, Ret,
};

/// Version of state values, and of envelope values without labels.
const VERSION: u8 = 1;
/// Of envelope values with labels, which stand between ENVID and the recipients.
const VERSION_LABELLED: u8 = 2;

/// RFC 3848 and RFC 6531 §4.3 names, and our own. Rows hold the index: append, never reorder.
const PROTOCOLS: &[&str] = &[
    "UNKNOWN",
    "LOCAL",
    "SMTP",
    "ESMTP",
    "ESMTPA",
    "ESMTPS",
    "ESMTPSA",
    "UTF8SMTP",
    "UTF8SMTPA",
    "UTF8SMTPS",
    "UTF8SMTPSA",
    "HTTP",
    "HTTPS",
    "LMTP",
    "LMTPA",
    "LMTPS",
    "LMTPSA",
    "UTF8LMTP",
    "UTF8LMTPA",
    "UTF8LMTPS",
    "UTF8LMTPSA",
];

/// Octets of a state's key: message id, then the recipient's index, both big-endian.
pub(super) const STATE_KEY_LEN: usize = 18;

/// Why a row cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Torn {
    #[error("it ends too early")]
    Short,
    #[error("it goes on after its end")]
    Trailing,
    #[error("its version {0} is not known")]
    Version(u8),
    #[error("a mark in it has no meaning")]
    Mark,
    #[error("a text in it is not UTF-8")]
    Text,
    #[error("an address in it is malformed")]
    Address,
    #[error("it names no recipient, or more than 65,535")]
    Recipients,
    #[error("its key is malformed")]
    Key,
    #[error("it belongs to no message")]
    Orphan,
    #[error("it names a recipient that its message does not have")]
    NoSuchRecipient,
    #[error("all its recipients are settled, and still it is here")]
    NothingLeft,
}

/// What a state row says of its recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Settled,
    Deferred(RecipientState),
}

/// A message but for its id and its data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) envelope: Envelope,
    pub(super) reception: Reception,
    pub(super) content: Content,
    pub(super) labels: Labels,
}

/// An envelope row as recovery needs it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) received: Moment,
    pub(super) labels: Labels,
    /// By recipient index.
    pub(super) domains: Vec<Domain>,
}

pub(super) fn state_key(id: MessageId, recipient: u16) -> [u8; STATE_KEY_LEN] {
    let mut key = [0; STATE_KEY_LEN];
    key[..16].copy_from_slice(&id.to_bytes());
    key[16..].copy_from_slice(&recipient.to_be_bytes());
    key
}

pub(super) fn parse_state_key(key: &[u8]) -> Result<(MessageId, u16), Torn> {
    let mut reader = Reader(key);
    let id = MessageId::from_bytes(reader.array()?);
    let recipient = u16::from_be_bytes(reader.array()?);
    reader.end()?;
    Ok((id, recipient))
}

pub(super) fn parse_message_key(key: &[u8]) -> Result<MessageId, Torn> {
    let mut reader = Reader(key);
    let id = MessageId::from_bytes(reader.array()?);
    reader.end()?;
    Ok(id)
}

/// The value of a recipient that needs no more attempts, in a message where others still do.
pub(super) const SETTLED: &[u8] = &[VERSION, mark::SETTLED];

pub(super) fn write_state(state: &RecipientState, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[VERSION, mark::DEFERRED]);
    out.extend_from_slice(&state.attempts.to_le_bytes());
    out.extend_from_slice(&state.due.as_micros().to_le_bytes());
    write_text(&state.last, out);
}

pub(super) fn read_state(row: &[u8]) -> Result<State, Torn> {
    let mut reader = Reader(row);
    reader.version()?;
    let state = match reader.u8()? {
        mark::SETTLED => State::Settled,
        mark::DEFERRED => State::Deferred(RecipientState {
            attempts: u16::from_le_bytes(reader.array()?),
            due: reader.moment()?,
            last: reader.text()?.into(),
        }),
        _ => return Err(Torn::Mark),
    };
    reader.end()?;
    Ok(state)
}

/// Marks of state rows, and bits of envelope rows.
mod mark {
    pub(super) const SETTLED: u8 = 0;
    pub(super) const DEFERRED: u8 = 1;

    pub(super) const SENDER: u8 = 1;
    pub(super) const EIGHT_BIT_MIME: u8 = 1 << 1;
    pub(super) const SMTPUTF8: u8 = 1 << 2;
    pub(super) const RET: u8 = 1 << 3;
    pub(super) const RET_FULL: u8 = 1 << 4;
    pub(super) const ENVID: u8 = 1 << 5;
    pub(super) const EIGHT_BIT: u8 = 1 << 6;
    pub(super) const UTF8_HEADER: u8 = 1 << 7;

    pub(super) const TENANT: u8 = 1;
    pub(super) const CAMPAIGN: u8 = 1 << 1;
    pub(super) const POOL: u8 = 1 << 2;
    pub(super) const LABELS_ALL: u8 = (1 << 3) - 1;

    pub(super) const NOTIFY_GIVEN: u8 = 1;
    pub(super) const NOTIFY_SUCCESS: u8 = 1 << 1;
    pub(super) const NOTIFY_FAILURE: u8 = 1 << 2;
    pub(super) const NOTIFY_DELAY: u8 = 1 << 3;
    pub(super) const ORCPT: u8 = 1 << 4;
    pub(super) const RECIPIENT_ALL: u8 = (1 << 5) - 1;

    pub(super) const PEER_NONE: u8 = 0;
    pub(super) const PEER_V4: u8 = 4;
    pub(super) const PEER_V6: u8 = 6;
}

/// Everything of `message` but its id, which is the key, and its data, which is another row.
pub(super) fn write_envelope(message: &Message, out: &mut Vec<u8>) {
    let envelope = &message.envelope;
    let bits = [
        (envelope.sender.is_some(), mark::SENDER),
        (
            envelope.body == BodyKind::EightBitMime,
            mark::EIGHT_BIT_MIME,
        ),
        (envelope.smtputf8, mark::SMTPUTF8),
        (envelope.ret.is_some(), mark::RET),
        (envelope.ret == Some(Ret::Full), mark::RET_FULL),
        (envelope.envid.is_some(), mark::ENVID),
        (message.content.eight_bit, mark::EIGHT_BIT),
        (message.content.utf8_header, mark::UTF8_HEADER),
    ];
    out.clear();
    let version = if message.labels.is_default() {
        VERSION
    } else {
        VERSION_LABELLED
    };
    out.extend_from_slice(&[version, gather_bits(&bits)]);
    out.extend_from_slice(&message.reception.at.as_micros().to_le_bytes());
    out.push(protocol_index(message.reception.protocol));
    write_peer(message.reception.peer, out);
    write_text(&message.reception.helo, out);
    if let Some(sender) = &envelope.sender {
        write_text(sender.as_str(), out);
    }
    if let Some(envid) = &envelope.envid {
        write_text(envid, out);
    }
    write_labels(&message.labels, out);
    write_number(envelope.recipients.len(), out);
    for recipient in &envelope.recipients {
        write_recipient(recipient, out);
    }
}

fn write_labels(labels: &Labels, out: &mut Vec<u8>) {
    if labels.is_default() {
        return;
    }
    let texts = [labels.tenant(), labels.campaign(), labels.pool()];
    let bits = [mark::TENANT, mark::CAMPAIGN, mark::POOL];
    let set: Vec<(bool, u8)> = texts.iter().map(Option::is_some).zip(bits).collect();
    out.push(gather_bits(&set));
    for text in texts.into_iter().flatten() {
        write_text(text, out);
    }
}

fn write_recipient(recipient: &Recipient, out: &mut Vec<u8>) {
    out.push(gather_bits(&[
        (recipient.notify.given, mark::NOTIFY_GIVEN),
        (recipient.notify.success, mark::NOTIFY_SUCCESS),
        (recipient.notify.failure, mark::NOTIFY_FAILURE),
        (recipient.notify.delay, mark::NOTIFY_DELAY),
        (recipient.orcpt.is_some(), mark::ORCPT),
    ]));
    write_text(recipient.address.as_str(), out);
    if let Some(orcpt) = &recipient.orcpt {
        write_text(orcpt, out);
    }
}

/// A protocol that the table lacks is kept as `UNKNOWN`: a trace's word is no reason to lose mail.
fn protocol_index(protocol: &str) -> u8 {
    let index = PROTOCOLS.iter().position(|name| *name == protocol);
    u8::try_from(index.unwrap_or(0)).expect("the table is short")
}

fn gather_bits(bits: &[(bool, u8)]) -> u8 {
    bits.iter()
        .filter(|(set, _)| *set)
        .fold(0, |all, (_, bit)| all | bit)
}

fn write_peer(peer: Option<SocketAddr>, out: &mut Vec<u8>) {
    match peer {
        None => out.push(mark::PEER_NONE),
        Some(SocketAddr::V4(peer)) => {
            out.push(mark::PEER_V4);
            out.extend_from_slice(&peer.ip().octets());
            out.extend_from_slice(&peer.port().to_le_bytes());
        }
        Some(SocketAddr::V6(peer)) => {
            out.push(mark::PEER_V6);
            out.extend_from_slice(&peer.ip().octets());
            out.extend_from_slice(&peer.port().to_le_bytes());
            out.extend_from_slice(&peer.flowinfo().to_le_bytes());
            out.extend_from_slice(&peer.scope_id().to_le_bytes());
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_number(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// LEB128, as protocol buffers have it.
fn write_number(number: usize, out: &mut Vec<u8>) {
    let mut rest = number;
    while rest > 0x7f {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

/// What [`write_envelope`] wrote.
pub(super) fn read_envelope(row: &[u8]) -> Result<Parts, Torn> {
    let mut reader = Reader(row);
    let head = reader.head()?;
    let sender = head.sender.map(parse_address).transpose()?;
    let recipients = (0..head.recipients)
        .map(|_| {
            let recipient = reader.recipient()?;
            Ok(Recipient {
                address: parse_address(recipient.address)?,
                notify: recipient.notify,
                orcpt: recipient.orcpt.map(Into::into),
            })
        })
        .collect::<Result<_, Torn>>()?;
    reader.end()?;
    let has = |bit| head.bits & bit != 0;
    let envelope = Envelope {
        sender,
        body: if has(mark::EIGHT_BIT_MIME) {
            BodyKind::EightBitMime
        } else {
            BodyKind::SevenBit
        },
        smtputf8: has(mark::SMTPUTF8),
        ret: match (has(mark::RET), has(mark::RET_FULL)) {
            (false, _) => None,
            (true, true) => Some(Ret::Full),
            (true, false) => Some(Ret::Headers),
        },
        envid: head.envid.map(Into::into),
        recipients,
    };
    let reception = Reception {
        at: head.received,
        peer: head.peer,
        helo: head.helo.into(),
        protocol: head.protocol,
    };
    let content = Content {
        eight_bit: has(mark::EIGHT_BIT),
        utf8_header: has(mark::UTF8_HEADER),
    };
    Ok(Parts {
        envelope,
        reception,
        content,
        labels: head.labels,
    })
}

/// The little that recovery needs of an envelope row.
pub(super) fn read_outline(row: &[u8]) -> Result<Outline, Torn> {
    let mut reader = Reader(row);
    let head = reader.head()?;
    let domains = (0..head.recipients)
        .map(|_| {
            let address = reader.recipient()?.address;
            let at = address.rfind('@').ok_or(Torn::Address)?;
            Domain::parse(&address[at + 1..]).map_err(|_| Torn::Address)
        })
        .collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(Outline {
        received: head.received,
        labels: head.labels,
        domains,
    })
}

fn parse_address(text: &str) -> Result<Address, Torn> {
    Address::parse(text).map_err(|_| Torn::Address)
}

/// An envelope row up to its recipients.
struct Head<'a> {
    bits: u8,
    received: Moment,
    protocol: &'static str,
    peer: Option<SocketAddr>,
    helo: &'a str,
    sender: Option<&'a str>,
    envid: Option<&'a str>,
    labels: Labels,
    /// 1 to 65,535.
    recipients: usize,
}

struct RecipientRow<'a> {
    notify: Notify,
    address: &'a str,
    orcpt: Option<&'a str>,
}

/// The part of a row that is not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Torn> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Torn::Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Torn> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Torn::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Torn> {
        self.array().map(|[octet]| octet)
    }

    fn number(&mut self) -> Result<usize, Torn> {
        let mut number = 0u64;
        for shift in (0..63).step_by(7) {
            let octet = self.u8()?;
            number |= u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return usize::try_from(number).map_err(|_| Torn::Short);
            }
        }
        Err(Torn::Mark)
    }

    fn text(&mut self) -> Result<&'a str, Torn> {
        let len = self.number()?;
        core::str::from_utf8(self.bytes(len)?).map_err(|_| Torn::Text)
    }

    fn moment(&mut self) -> Result<Moment, Torn> {
        Ok(Moment::from_micros(u64::from_le_bytes(self.array()?)))
    }

    fn version(&mut self) -> Result<(), Torn> {
        match self.u8()? {
            VERSION => Ok(()),
            other => Err(Torn::Version(other)),
        }
    }

    fn peer(&mut self) -> Result<Option<SocketAddr>, Torn> {
        match self.u8()? {
            mark::PEER_NONE => Ok(None),
            mark::PEER_V4 => {
                let ip = IpAddr::V4(Ipv4Addr::from(self.array::<4>()?));
                let port = u16::from_le_bytes(self.array()?);
                Ok(Some(SocketAddr::new(ip, port)))
            }
            mark::PEER_V6 => {
                let ip = Ipv6Addr::from(self.array::<16>()?);
                let port = u16::from_le_bytes(self.array()?);
                let flow = u32::from_le_bytes(self.array()?);
                let scope = u32::from_le_bytes(self.array()?);
                Ok(Some(SocketAddrV6::new(ip, port, flow, scope).into()))
            }
            _ => Err(Torn::Mark),
        }
    }

    fn head(&mut self) -> Result<Head<'a>, Torn> {
        let is_labelled = match self.u8()? {
            VERSION => false,
            VERSION_LABELLED => true,
            other => return Err(Torn::Version(other)),
        };
        let bits = self.u8()?;
        let received = self.moment()?;
        let protocol = usize::from(self.u8()?);
        let head = Head {
            bits,
            received,
            protocol: PROTOCOLS.get(protocol).ok_or(Torn::Mark)?,
            peer: self.peer()?,
            helo: self.text()?,
            sender: self.text_if(bits & mark::SENDER != 0)?,
            envid: self.text_if(bits & mark::ENVID != 0)?,
            labels: if is_labelled {
                self.labels()?
            } else {
                Labels::default()
            },
            recipients: self.number()?,
        };
        match head.recipients {
            1..=0xffff => Ok(head),
            _ => Err(Torn::Recipients),
        }
    }

    fn labels(&mut self) -> Result<Labels, Torn> {
        let bits = self.u8()?;
        if bits & !mark::LABELS_ALL != 0 {
            return Err(Torn::Mark);
        }
        let tenant = self.text_if(bits & mark::TENANT != 0)?;
        let campaign = self.text_if(bits & mark::CAMPAIGN != 0)?;
        let pool = self.text_if(bits & mark::POOL != 0)?;
        Ok(Labels::new(tenant, campaign, pool))
    }

    fn recipient(&mut self) -> Result<RecipientRow<'a>, Torn> {
        let bits = self.u8()?;
        if bits & !mark::RECIPIENT_ALL != 0 {
            return Err(Torn::Mark);
        }
        Ok(RecipientRow {
            notify: Notify {
                given: bits & mark::NOTIFY_GIVEN != 0,
                success: bits & mark::NOTIFY_SUCCESS != 0,
                failure: bits & mark::NOTIFY_FAILURE != 0,
                delay: bits & mark::NOTIFY_DELAY != 0,
            },
            address: self.text()?,
            orcpt: self.text_if(bits & mark::ORCPT != 0)?,
        })
    }

    fn text_if(&mut self, present: bool) -> Result<Option<&'a str>, Torn> {
        present.then(|| self.text()).transpose()
    }

    const fn end(&self) -> Result<(), Torn> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Torn::Trailing)
        }
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
