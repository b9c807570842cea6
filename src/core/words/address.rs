//! Mail addresses and domains (RFC 5321 §4.1.2, RFC 6531 §3.3).

use core::fmt;

/// Octets of a path without its brackets (RFC 5321 §4.5.3.1.3 counts 256 with them).
const PATH_OCTETS_MAX: usize = 254;
/// Octets of a local part (RFC 5321 §4.5.3.1.1).
const LOCAL_OCTETS_MAX: usize = 64;
/// Octets of a domain (RFC 5321 §4.5.3.1.2).
const DOMAIN_OCTETS_MAX: usize = 255;

/// What is wrong with the text of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("address has no domain")]
    NoDomain,
    #[error("local part is malformed")]
    Local,
    #[error("domain is malformed")]
    Domain,
    #[error("address is too long")]
    TooLong,
}

/// A domain as mail is routed by it: lower case, A-labels (RFC 5890), or an address literal in
/// brackets. Comparison is byte comparison.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Box<str>);

impl Domain {
    /// Normalises case and U-labels; checks LDH syntax (underscore tolerated: it is in use) or the
    /// form of an address literal (RFC 5321 §4.1.3).
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() || text.len() > DOMAIN_OCTETS_MAX {
            return Err(AddressError::Domain);
        }
        if let Some(literal) = text.strip_prefix('[') {
            let inner = literal.strip_suffix(']').ok_or(AddressError::Domain)?;
            parse_literal(inner).ok_or(AddressError::Domain)?;
            return Ok(Self(text.to_ascii_lowercase().into()));
        }
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii(text).map_err(|_| AddressError::Domain)?
        };
        if ascii.len() <= DOMAIN_OCTETS_MAX && ascii.split('.').all(is_label) {
            Ok(Self(ascii.into()))
        } else {
            Err(AddressError::Domain)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of a literal such as `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
    pub fn literal(&self) -> Option<core::net::IpAddr> {
        let inner = self.0.strip_prefix('[')?.strip_suffix(']')?;
        parse_literal(inner)
    }
}

fn parse_literal(inner: &str) -> Option<core::net::IpAddr> {
    let tagged = inner
        .get(..5)
        .filter(|tag| tag.eq_ignore_ascii_case("ipv6:"));
    match tagged {
        Some(_) => inner
            .get(5..)?
            .parse::<core::net::Ipv6Addr>()
            .ok()
            .map(Into::into),
        None => inner.parse::<core::net::Ipv4Addr>().ok().map(Into::into),
    }
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// `local@domain`: the local part exactly as the client wrote it (RFC 5321 §2.4: case kept, quotes
/// kept), the domain normalised as [`Domain`] does. Without brackets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: Box<str>,
    at: u16,
}

impl Address {
    /// Parses the inside of a path's brackets, source routes already removed.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let at = split_at_sign(text).ok_or(AddressError::NoDomain)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if local.len() > LOCAL_OCTETS_MAX || text.len() > PATH_OCTETS_MAX {
            return Err(AddressError::TooLong);
        }
        if !is_local_part(local) {
            return Err(AddressError::Local);
        }
        let domain = Domain::parse(domain)?;
        // A-labels are longer than what was written.
        if local.len() + 1 + domain.as_str().len() > PATH_OCTETS_MAX {
            return Err(AddressError::TooLong);
        }
        Ok(Self::from_parts(local, &domain))
    }

    fn from_parts(local: &str, domain: &Domain) -> Self {
        let at = u16::try_from(local.len()).expect("a local part has at most 64 octets");
        Self {
            text: format!("{local}@{domain}").into(),
            at,
        }
    }

    /// `postmaster@domain`: the one mailbox every domain has (RFC 5321 §4.5.1).
    pub fn postmaster(domain: &Domain) -> Self {
        Self::from_parts("postmaster", domain)
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn local(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// Text of the domain: lower case, A-labels.
    pub fn domain_str(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }

    pub fn domain(&self) -> Domain {
        Domain(self.domain_str().into())
    }

    /// Whether the local part needs SMTPUTF8 at the next hop (RFC 6531); the domain never does.
    pub fn needs_utf8(&self) -> bool {
        !self.local().is_ascii()
    }
}

/// Where the last `@` outside quotes stands.
fn split_at_sign(text: &str) -> Option<usize> {
    if !text.starts_with('"') {
        return text.find('@');
    }
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return text[index + 1..].starts_with('@').then_some(index + 1),
            _ => {}
        }
    }
    None
}

/// RFC 5321 `Dot-string` or `Quoted-string`, with RFC 6531's UTF-8 beyond ASCII.
fn is_local_part(local: &str) -> bool {
    let quoted = local.strip_prefix('"').and_then(|l| l.strip_suffix('"'));
    if let Some(inner) = quoted {
        let mut escaped = false;
        for c in inner.chars() {
            match c {
                ' '..='~' if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return false,
                ' '..='~' => {}
                c if c.is_ascii() || escaped || breaks_lines(c) => return false,
                _ => {}
            }
        }
        return !escaped;
    }
    !local.is_empty()
        && local
            .split('.')
            .all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// Controls beyond ASCII and Unicode's own line ends have no place in an address or a log line.
fn breaks_lines(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(c)
        || !(c.is_ascii() || breaks_lines(c))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_normalised_and_local_parts_are_not() {
        let address = Address::parse("Some.One@EXAMPLE.Com").unwrap();
        assert_eq!(address.as_str(), "Some.One@example.com");
        assert_eq!(address.local(), "Some.One");
        assert_eq!(address.domain().as_str(), "example.com");
        let idn = Address::parse("jörg@bücher.example").unwrap();
        assert_eq!(idn.domain_str(), "xn--bcher-kva.example");
        assert!(idn.needs_utf8());
    }

    #[test]
    fn quoted_local_parts_hold_at_signs() {
        let address = Address::parse("\"a@b \\\" c\"@example.com").unwrap();
        assert_eq!(address.local(), "\"a@b \\\" c\"");
        assert_eq!(address.domain_str(), "example.com");
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for bad in [
            "",
            "a",
            "@",
            "@b",
            "a@",
            "a..b@c",
            ".a@b",
            "a.@b",
            "a b@c",
            "a@b..c",
            "a@-b",
            "a@b-",
            "a@[1.2.3]",
            "a@[300.1.1.1]",
            "\"a@b",
            "\"a\"b@c",
            "a@b@c",
            "a\0@b",
            "a@b c",
            "a@[1.2.3.4",
            "a\u{2028}b@c",
            "\"a\u{85}b\"@c",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad:?}");
        }
        let long = format!("{}@example.com", "a".repeat(65));
        assert_eq!(Address::parse(&long), Err(AddressError::TooLong));
        assert!(Address::parse(&format!("{}@example.com", "a".repeat(64))).is_ok());
        let grows = format!("{}@{}example.com", "a".repeat(64), "ü.".repeat(30));
        assert_eq!(Address::parse(&grows), Err(AddressError::TooLong));
    }

    #[test]
    fn literals_know_their_address() {
        let v4 = Address::parse("a@[192.0.2.1]").unwrap().domain();
        assert_eq!(v4.literal(), Some("192.0.2.1".parse().unwrap()));
        let v6 = Address::parse("a@[IPv6:2001:db8::1]").unwrap().domain();
        assert_eq!(v6.literal(), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(Domain::parse("example.com").unwrap().literal(), None);
    }
}
