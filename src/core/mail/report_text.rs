//! Lines of a report: cleaned of what peers put in them, folded, short enough for SMTP.

/// Where a line is folded when it has a space (RFC 5322 §2.1.1).
const LINE_OCTETS: usize = 76;
/// No line is longer (RFC 5322 §2.1.1 allows 998).
const WORD_OCTETS_MAX: usize = 900;

/// What characters may stand in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    Ascii,
    Utf8,
}

/// Control characters, line ends above all, become `?`; beyond ASCII too where it must not stand.
pub(super) fn clean(text: &str, charset: Charset) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => ' ',
            c if c.is_control() || (charset == Charset::Ascii && !c.is_ascii()) => '?',
            c => c,
        })
        .collect()
}

/// `Name: value`, folded.
pub(super) fn push_field(out: &mut String, name: &str, value: &str, charset: Charset) {
    push_folded(out, &format!("{name}: {}", clean(value, charset)), " ");
}

/// `Name: value` with its spaces as they are: in an address they count.
pub(super) fn push_verbatim(out: &mut String, name: &str, value: &str, charset: Charset) {
    if value.len() > WORD_OCTETS_MAX {
        return push_field(out, name, value, charset);
    }
    out.push_str(&format!("{name}: {}\r\n", clean(value, charset)));
}

/// Words in lines; all lines but the first start with `indent`.
pub(super) fn push_folded(out: &mut String, text: &str, indent: &str) {
    let mut column = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut rest = word;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(WORD_OCTETS_MAX));
            if column > 0 && column + 1 + piece.len() > LINE_OCTETS {
                out.push_str("\r\n");
                out.push_str(indent);
                column = indent.len();
            } else if column > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(piece);
            column += piece.len();
            rest = after;
        }
    }
    out.push_str("\r\n");
}

/// RFC 3461 §4: `+` and two upper case hex digits stand for an octet. `None` if it is no xtext.
pub(super) fn decode_xtext(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                octets.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'!'..=b'~' if byte != b'=' => octets.push(byte),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&octets).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xtext_is_decoded_or_refused() {
        assert_eq!(decode_xtext("QQ+2B1+0D+0A").as_deref(), Some("QQ+1\r\n"));
        for bad in ["a+", "a+2", "a+ZZ", "a=b", "a b", "é"] {
            assert_eq!(decode_xtext(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn long_texts_are_folded_and_never_broken_out_of() {
        let mut out = String::new();
        let text = format!("a\r\nBcc: x {} {}", "word ".repeat(50), "é".repeat(2000));
        push_field(&mut out, "Diagnostic-Code", &text, Charset::Utf8);
        assert!(out.split("\r\n").all(|line| line.len() <= 998));
        assert!(
            out.split("\r\n")
                .skip(1)
                .all(|l| l.is_empty() || l.starts_with(' '))
        );
        let mut ascii = String::new();
        push_field(&mut ascii, "X", "é", Charset::Ascii);
        assert_eq!(ascii, "X: ?\r\n");
    }
}
