//! Command lines of RFC 5321 §4.1 with the parameters of RFCs 1870, 3030, 3461, 6152 and 6531.
//! Strict where a lax reading could mislead; knows nothing of the session's state.

use crate::words::{Address, BodyKind, Domain, Notify, Recipient, Ret};

/// ENVID= before decoding (RFC 3461 §4.4) and ORCPT= (§4.2).
const ENVID_OCTETS_MAX: usize = 100;
const ORCPT_OCTETS_MAX: usize = 500;

/// A command and what stands behind its verb, borrowed from the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    Ehlo(&'a str),
    Helo(&'a str),
    /// Behind `MAIL `; see [`parse_mail`].
    Mail(&'a [u8]),
    /// Behind `RCPT `; see [`parse_rcpt`].
    Rcpt(&'a [u8]),
    Data,
    Bdat {
        octets: u64,
        last: bool,
    },
    Rset,
    Noop,
    Quit,
    Help,
    Vrfy,
}

/// What is wrong with a line; each has its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.reply())]
pub enum Fault {
    Unknown,
    NotImplemented,
    /// A verb of HTTP: a browser or a relay was tricked into talking to us.
    Foreign,
    Characters,
    NoParameter,
    Hello,
    Path,
    Sender,
    Recipient,
    NotUtf8,
    NeedsUtf8,
    Parameter,
    ParameterUnknown,
    BodyUnknown,
    SizeTooLarge,
    Chunk,
}

impl Fault {
    /// The reply line without its CRLF.
    pub const fn reply(self) -> &'static str {
        match self {
            Self::Unknown => "500 5.5.2 Command not recognised",
            Self::NotImplemented => "502 5.5.1 Command not implemented",
            Self::Foreign => "421 4.7.0 This is not what you look for",
            Self::Characters => "500 5.5.2 Control characters in command",
            Self::NoParameter => "501 5.5.4 Command takes no parameter",
            Self::Hello => "501 5.5.4 Give a host name or an address literal",
            Self::Path => "501 5.5.2 Address must stand in angle brackets",
            Self::Sender => "553 5.1.7 Sender address is malformed",
            Self::Recipient => "553 5.1.3 Recipient address is malformed",
            Self::NotUtf8 => "553 5.6.7 Address is not UTF-8",
            Self::NeedsUtf8 => "553 5.6.7 Address needs SMTPUTF8",
            Self::Parameter => "501 5.5.4 Parameter value is malformed",
            Self::ParameterUnknown => "555 5.5.4 Parameter not recognised",
            Self::BodyUnknown => "504 5.5.4 Body type not supported",
            Self::SizeTooLarge => "552 5.3.4 Message size exceeds limit",
            Self::Chunk => "501 5.5.4 Give a chunk size and perhaps LAST",
        }
    }
}

/// What MAIL said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    pub sender: Option<Address>,
    pub size: Option<u64>,
    pub body: BodyKind,
    pub smtputf8: bool,
    pub ret: Option<Ret>,
    pub envid: Option<Box<str>>,
}

/// A line without its line end.
pub fn parse(line: &[u8]) -> Result<Command<'_>, Fault> {
    // Only what RFC 5321 calls white space: a CR here came alone, and another server may have
    // ended the line at it.
    let end = line.iter().rposition(|b| !matches!(b, b' ' | b'\t'));
    let line = &line[..end.map_or(0, |at| at + 1)];
    if line.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
        return Err(Fault::Characters);
    }
    let space = line.iter().position(|b| matches!(b, b' ' | b'\t'));
    let (verb, rest) = line.split_at(space.unwrap_or(line.len()));
    let rest = rest.trim_ascii_start();
    let mut upper = [0u8; 8];
    let Some(known) = upper.get_mut(..verb.len()) else {
        return Err(Fault::Unknown);
    };
    known.copy_from_slice(verb);
    known.make_ascii_uppercase();
    match &*known {
        b"MAIL" => Ok(Command::Mail(rest)),
        b"RCPT" => Ok(Command::Rcpt(rest)),
        b"DATA" => bare(rest, Command::Data),
        b"EHLO" => hello(rest).map(Command::Ehlo),
        b"HELO" => hello(rest).map(Command::Helo),
        b"RSET" => bare(rest, Command::Rset),
        b"QUIT" => bare(rest, Command::Quit),
        b"BDAT" => chunk(rest),
        b"NOOP" => Ok(Command::Noop),
        b"HELP" => Ok(Command::Help),
        b"VRFY" if rest.is_empty() => Err(Fault::Parameter),
        b"VRFY" => Ok(Command::Vrfy),
        b"EXPN" | b"TURN" | b"ETRN" | b"ATRN" | b"SEND" | b"SOML" | b"SAML" | b"AUTH"
        | b"STARTTLS" => Err(Fault::NotImplemented),
        b"GET" | b"POST" | b"PUT" | b"HEAD" | b"OPTIONS" | b"CONNECT" | b"DELETE" => {
            Err(Fault::Foreign)
        }
        _ => Err(Fault::Unknown),
    }
}

fn bare<'a>(rest: &[u8], command: Command<'a>) -> Result<Command<'a>, Fault> {
    rest.is_empty().then_some(command).ok_or(Fault::NoParameter)
}

/// Host names are taken as loosely as clients give them (`localhost`, underscores), but nothing
/// that could break out of a trace field.
fn hello(rest: &[u8]) -> Result<&str, Fault> {
    let fine = |b: &u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(b);
    let text = core::str::from_utf8(rest).map_err(|_| Fault::Hello)?;
    let good = !rest.is_empty() && rest.len() <= 255 && rest.iter().all(fine);
    good.then_some(text).ok_or(Fault::Hello)
}

fn chunk(rest: &[u8]) -> Result<Command<'static>, Fault> {
    let text = core::str::from_utf8(rest).map_err(|_| Fault::Chunk)?;
    let mut words = text.split_ascii_whitespace();
    let octets = words.next().and_then(number).ok_or(Fault::Chunk)?;
    let octets = octets.ok_or(Fault::Chunk)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(Fault::Chunk),
    };
    match words.next() {
        None => Ok(Command::Bdat { octets, last }),
        Some(_) => Err(Fault::Chunk),
    }
}

/// How many octets follow `line` if it is a BDAT, however malformed: refused or not, they are
/// content and must not be taken for commands.
pub fn announced(line: &[u8]) -> Option<u64> {
    let (verb, rest) = line.split_at_checked(4)?;
    let mut words = rest.split(parts_words);
    let apart = verb.eq_ignore_ascii_case(b"BDAT") && words.next()?.is_empty();
    let size = words.find(|word| !word.is_empty())?;
    let is_number = apart && size.iter().all(u8::is_ascii_digit);
    let size = core::str::from_utf8(size).ok().filter(|_| is_number)?;
    // What does not fit is more than anybody sends.
    Some(size.parse().unwrap_or(u64::MAX))
}

/// The same of a line of which only the beginning is known.
///
/// # Errors
/// [`Fault::Chunk`] when it is a BDAT and the number is not in there.
pub fn announced_in_head(head: &[u8]) -> Result<Option<u64>, Fault> {
    let is_chunk = head.split_at_checked(4).is_some_and(|(verb, rest)| {
        verb.eq_ignore_ascii_case(b"BDAT") && rest.first().is_some_and(parts_words)
    });
    if !is_chunk {
        return Ok(None);
    }
    // The last word may go on.
    let end = head.iter().rposition(parts_words).unwrap_or(0);
    announced(&head[..end]).map(Some).ok_or(Fault::Chunk)
}

const fn parts_words(octet: &u8) -> bool {
    *octet == b' ' || octet.is_ascii_control()
}

/// 1 to 20 digits; the inner `None` is a number beyond any limit.
fn number(text: &str) -> Option<Option<u64>> {
    let digits = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())
}

/// Behind `MAIL `: `FROM:<path> parameters`.
pub fn parse_mail(rest: &[u8]) -> Result<Mail, Fault> {
    let (path, parameters) = split_path(rest, b"FROM:")?;
    let mut mail = Mail::default();
    let mut seen = 0u8;
    for parameter in parameters.split_ascii_whitespace() {
        let bit = mail_parameter(&mut mail, parameter)?;
        if seen & bit != 0 {
            return Err(Fault::Parameter);
        }
        seen |= bit;
    }
    if !path.is_empty() {
        check_utf8(path, mail.smtputf8)?;
        let address = Address::parse(path).map_err(|_| Fault::Sender)?;
        mail.sender = Some(address);
    }
    Ok(mail)
}

/// Takes one parameter and gives the bit by which a second one of its kind is noticed.
fn mail_parameter(mail: &mut Mail, parameter: &str) -> Result<u8, Fault> {
    let (key, value) = split_parameter(parameter);
    let is = |name: &str| key.eq_ignore_ascii_case(name);
    if is("SIZE") {
        let size = value.and_then(number).ok_or(Fault::Parameter)?;
        mail.size = Some(size.ok_or(Fault::SizeTooLarge)?);
        Ok(1)
    } else if is("BODY") {
        let value = value.ok_or(Fault::Parameter)?;
        mail.body = match value {
            v if v.eq_ignore_ascii_case("7BIT") => BodyKind::SevenBit,
            v if v.eq_ignore_ascii_case("8BITMIME") => BodyKind::EightBitMime,
            _ => return Err(Fault::BodyUnknown),
        };
        Ok(2)
    } else if is("SMTPUTF8") {
        mail.smtputf8 = value.is_none();
        value.is_none().then_some(4).ok_or(Fault::Parameter)
    } else if is("RET") {
        mail.ret = match value {
            Some(v) if v.eq_ignore_ascii_case("FULL") => Some(Ret::Full),
            Some(v) if v.eq_ignore_ascii_case("HDRS") => Some(Ret::Headers),
            _ => return Err(Fault::Parameter),
        };
        Ok(8)
    } else if is("ENVID") {
        let fine = |v: &&str| v.len() <= ENVID_OCTETS_MAX && is_xtext(v);
        mail.envid = Some(value.filter(fine).ok_or(Fault::Parameter)?.into());
        Ok(16)
    } else {
        Err(Fault::ParameterUnknown)
    }
}

/// Behind `RCPT `: `TO:<path> parameters`. A bare `<Postmaster>` is ours (RFC 5321 §4.5.1).
pub fn parse_rcpt(rest: &[u8], smtputf8: bool, hostname: &Domain) -> Result<Recipient, Fault> {
    let (path, parameters) = split_path(rest, b"TO:")?;
    check_utf8(path, smtputf8)?;
    let address = if path.eq_ignore_ascii_case("postmaster") {
        Address::postmaster(hostname)
    } else {
        Address::parse(path).map_err(|_| Fault::Recipient)?
    };
    let mut recipient = Recipient {
        address,
        notify: Notify::default(),
        orcpt: None,
    };
    for parameter in parameters.split_ascii_whitespace() {
        let (key, value) = split_parameter(parameter);
        if key.eq_ignore_ascii_case("NOTIFY") && !recipient.notify.given {
            recipient.notify = value.and_then(parse_notify).ok_or(Fault::Parameter)?;
        } else if key.eq_ignore_ascii_case("ORCPT") && recipient.orcpt.is_none() {
            let orcpt = value.filter(|v| is_orcpt(v, smtputf8));
            recipient.orcpt = Some(orcpt.ok_or(Fault::Parameter)?.into());
        } else if key.eq_ignore_ascii_case("NOTIFY") || key.eq_ignore_ascii_case("ORCPT") {
            return Err(Fault::Parameter);
        } else {
            return Err(Fault::ParameterUnknown);
        }
    }
    Ok(recipient)
}

fn check_utf8(path: &str, smtputf8: bool) -> Result<(), Fault> {
    (smtputf8 || path.is_ascii())
        .then_some(())
        .ok_or(Fault::NeedsUtf8)
}

fn split_parameter(parameter: &str) -> (&str, Option<&str>) {
    match parameter.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (parameter, None),
    }
}

/// The inside of the brackets, its source route removed, and the parameters.
fn split_path<'a>(rest: &'a [u8], word: &[u8]) -> Result<(&'a str, &'a str), Fault> {
    let text = core::str::from_utf8(rest).map_err(|_| Fault::NotUtf8)?;
    let (head, tail) = rest.split_at_checked(word.len()).ok_or(Fault::Path)?;
    if !head.eq_ignore_ascii_case(word) {
        return Err(Fault::Path);
    }
    // A space behind the colon is not allowed and not rare.
    let start = rest.len() - tail.trim_ascii_start().len();
    let inner = text[start..].strip_prefix('<').ok_or(Fault::Path)?;
    let end = closing_bracket(inner.as_bytes()).ok_or(Fault::Path)?;
    let (path, parameters) = (&inner[..end], &inner[end + 1..]);
    if !parameters.is_empty() && !parameters.starts_with([' ', '\t']) {
        return Err(Fault::Path);
    }
    Ok((strip_route(path)?, parameters))
}

fn closing_bracket(inner: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (index, byte) in inner.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(index),
            _ => {}
        }
    }
    None
}

/// RFC 5321 appendix C: a source route is accepted, ignored and not passed on.
fn strip_route(path: &str) -> Result<&str, Fault> {
    if !path.starts_with('@') {
        return Ok(path);
    }
    let (route, mailbox) = path.split_once(':').ok_or(Fault::Path)?;
    let hop = |hop: &str| {
        hop.strip_prefix('@')
            .is_some_and(|d| Domain::parse(d).is_ok())
    };
    (!mailbox.is_empty() && route.split(',').all(hop))
        .then_some(mailbox)
        .ok_or(Fault::Path)
}

fn parse_notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::NEVER);
    }
    let mut notify = Notify::NEVER;
    for word in value.split(',') {
        if word.eq_ignore_ascii_case("SUCCESS") {
            notify.success = true;
        } else if word.eq_ignore_ascii_case("FAILURE") {
            notify.failure = true;
        } else if word.eq_ignore_ascii_case("DELAY") {
            notify.delay = true;
        } else {
            return None;
        }
    }
    Some(notify)
}

/// `addr-type;xtext`, or RFC 6533's `utf-8;` form, which may hold UTF-8 inside an SMTPUTF8
/// transaction.
fn is_orcpt(value: &str, smtputf8: bool) -> bool {
    let Some((kind, address)) = value.split_once(';') else {
        return false;
    };
    let kind_fine =
        !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let unicode = kind.eq_ignore_ascii_case("utf-8");
    let address_fine = match address.is_ascii() {
        true => is_xtext(address),
        false => unicode && smtputf8,
    };
    value.len() <= ORCPT_OCTETS_MAX && kind_fine && !address.is_empty() && address_fine
}

/// RFC 3461 §4: printable without `+` and `=`, or `+` and two upper-case hexadecimal digits.
fn is_xtext(text: &str) -> bool {
    let mut bytes = text.bytes();
    let hex = |b: Option<u8>| b.is_some_and(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    while let Some(byte) = bytes.next() {
        let fine = match byte {
            b'+' => hex(bytes.next()) && hex(bytes.next()),
            b'=' => false,
            b'!'..=b'~' => true,
            _ => false,
        };
        if !fine {
            return false;
        }
    }
    !text.is_empty()
}

/// For fuzzing: parses `line` as whatever command it is.
pub fn exercise(line: &[u8]) {
    let hostname = Domain::parse("mx.test").expect("a plain name is a domain");
    exercise_announced(line);
    match parse(line) {
        Ok(Command::Bdat { octets, .. }) => assert_eq!(announced(line), Some(octets)),
        Ok(Command::Mail(rest)) => {
            if let Ok(Mail {
                sender: Some(sender),
                ..
            }) = parse_mail(rest)
            {
                assert_eq!(Address::parse(sender.as_str()).as_ref(), Ok(&sender));
            }
        }
        Ok(Command::Rcpt(rest)) => {
            if let Ok(recipient) = parse_rcpt(rest, true, &hostname) {
                let again = Address::parse(recipient.address.as_str());
                assert_eq!(again, Ok(recipient.address));
            }
        }
        Ok(_) | Err(_) => {}
    }
}

/// Where a chunk ends is told from the line the same, wherever it was cut.
fn exercise_announced(line: &[u8]) {
    const CUTS_MAX: usize = 64;
    let whole = announced(line);
    // The verb and what parts it from the rest must be there.
    for cut in (5..=line.len().min(CUTS_MAX)).chain([line.len().max(5)]) {
        match line.get(..cut).map(announced_in_head) {
            Some(Ok(known)) => assert_eq!(known, whole, "cut at {cut}"),
            Some(Err(fault)) => assert_eq!(fault, Fault::Chunk),
            None => {}
        }
    }
}
