//! SMTP replies (RFC 5321 §4.2) with enhanced codes (RFC 3463).

use core::fmt;

/// `class.subject.detail` of RFC 3463; the class is 2, 4 or 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Enhanced {
    pub class: u8,
    pub subject: u16,
    pub detail: u16,
}

impl Enhanced {
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self {
            class,
            subject,
            detail,
        }
    }

    /// The code at the start of `text`, and what follows it.
    pub fn parse_prefix(text: &str) -> Option<(Self, &str)> {
        let end = text.find(' ').unwrap_or(text.len());
        let mut parts = text[..end].split('.');
        let class = parts
            .next()?
            .parse()
            .ok()
            .filter(|c| matches!(c, 2 | 4 | 5))?;
        let subject = parts.next().and_then(short_number)?;
        let detail = parts.next().and_then(short_number)?;
        if parts.next().is_some() {
            return None;
        }
        Some((Self::new(class, subject, detail), text[end..].trim_start()))
    }
}

fn short_number(text: &str) -> Option<u16> {
    let digits = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// A reply as received or as reported: code, enhanced code, text. A multi-line text holds `\n`
/// between its lines, without codes. Control characters of a peer are already replaced by `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    pub enhanced: Option<Enhanced>,
    pub text: Box<str>,
}

impl Reply {
    pub fn new(code: u16, enhanced: Option<Enhanced>, text: &str) -> Self {
        Self {
            code,
            enhanced,
            text: text.into(),
        }
    }

    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }
}

impl fmt::Display for Reply {
    /// One line: `code x.y.z text`, the lines of a longer text joined by spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        for line in self.text.split('\n').filter(|line| !line.is_empty()) {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enhanced_codes_are_taken_only_when_well_formed() {
        let (code, rest) = Enhanced::parse_prefix("5.1.10 no such user").unwrap();
        assert_eq!((code, rest), (Enhanced::new(5, 1, 10), "no such user"));
        for bad in [
            "",
            "5.1",
            "3.1.1 x",
            "5.1.1.1 x",
            "5.a.1 x",
            "hello",
            "5.1.1000 x",
        ] {
            assert_eq!(Enhanced::parse_prefix(bad), None, "{bad:?}");
        }
    }
}
