//! The regular expressions of automation rules. Matching takes time linear in the reply, whatever a
//! peer sends, so there is no backtracking; the one lookaround in use, `^(?!…)`, is taken apart.

use regex::Regex;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    body: Regex,
    /// Lookaheads at the start: whether each must match there.
    ahead: Vec<(bool, Regex)>,
}

impl Pattern {
    /// The text says why not.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let Some((flags, mut rest)) = split_anchor(text) else {
            return Ok(Self {
                text: text.into(),
                body: regex(text)?,
                ahead: Vec::new(),
            });
        };
        let mut ahead = Vec::new();
        while let Some((wanted, inner, after)) = lookahead(rest) {
            ahead.push((wanted, regex(&format!("{flags}^(?:{inner})"))?));
            rest = after;
        }
        if !ahead.is_empty() && has_alternatives(rest) {
            return Err("alternatives after a lookahead must stand in parentheses".into());
        }
        Ok(Self {
            text: text.into(),
            body: regex(&format!("{flags}^{rest}"))?,
            ahead,
        })
    }

    /// Whether the one-line reply, `code x.y.z text`, has it.
    pub fn matches(&self, reply: &str) -> bool {
        self.body.is_match(reply)
            && self
                .ahead
                .iter()
                .all(|(wanted, regex)| regex.is_match(reply) == *wanted)
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(&ascii_digits(text)).map_err(|error| match error {
        // The parser draws the place with a caret over several lines; its last line says it.
        regex::Error::Syntax(drawn) => {
            let last = drawn.lines().last().unwrap_or("syntax error");
            last.trim_start_matches("error: ").to_owned()
        }
        regex::Error::CompiledTooBig(size) => format!("it needs more than {size} octets"),
        other => other.to_string(),
    })
}

/// `\d` as 0 to 9 alone, outside classes. All the digits of Unicode make a pattern ten times as slow
/// to compile, and no reply code or address is written in them.
fn ascii_digits(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut copied = 0;
    scan(text, |at, c| {
        if c == '\\' && text[at..].starts_with("\\d") {
            out.push_str(&text[copied..at]);
            out.push_str("(?-u:\\d)");
            copied = at + 2;
        }
        true
    });
    out.push_str(&text[copied..]);
    out
}

/// Flags that keep `^` the start of the text, and what follows `^`.
fn split_anchor(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('^') {
        return Some(("", rest));
    }
    ["(?i)", "(?s)", "(?is)", "(?si)"]
        .into_iter()
        .find_map(|flags| Some((flags, text.strip_prefix(flags)?.strip_prefix('^')?)))
}

/// A lookahead at the start of `text`: whether it is wanted, its inside, and what follows.
fn lookahead(text: &str) -> Option<(bool, &str, &str)> {
    let (wanted, after) = match (text.strip_prefix("(?="), text.strip_prefix("(?!")) {
        (Some(after), _) => (true, after),
        (_, Some(after)) => (false, after),
        _ => return None,
    };
    let mut depth = 1usize;
    let mut end = None;
    scan(after, |at, c| {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => end = end.or(Some(at)),
            ')' => depth -= 1,
            _ => {}
        }
        end.is_none()
    });
    let end = end?;
    Some((wanted, &after[..end], &after[end + 1..]))
}

fn has_alternatives(text: &str) -> bool {
    let (mut depth, mut found) = (0usize, false);
    scan(text, |_, c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => found = true,
            _ => {}
        }
        !found
    });
    found
}

/// Shows the characters outside classes, of an escape its backslash alone, while `on` wants more.
fn scan(text: &str, mut on: impl FnMut(usize, char) -> bool) {
    let mut chars = text.char_indices().peekable();
    let mut class = 0usize;
    while let Some((at, c)) = chars.next() {
        if class == 0 && c != '[' && !on(at, c) {
            return;
        }
        match c {
            '\\' => {
                chars.next();
            }
            '[' => {
                class += 1;
                // A bracket that comes first is one of the class.
                chars.next_if(|(_, c)| *c == '^');
                chars.next_if(|(_, c)| *c == ']');
            }
            ']' => class = class.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookaheads_at_the_start_mean_what_they_say() {
        let rule = Pattern::compile("^(?!.*KumoMTA internal).*RL000010").unwrap();
        assert!(rule.matches("421 4.7.0 RL000010 slow down"));
        assert!(!rule.matches("421 4.7.0 KumoMTA internal: RL000010"));
        assert!(!rule.matches("421 4.7.0 RL00001"));
        let both = Pattern::compile("(?i)^(?=4\\d\\d)(?![^)]*\\)x)\\d+ (busy|wait)").unwrap();
        assert!(both.matches("421 BUSY") && both.matches("450 wait"));
        assert!(!both.matches("521 busy") && !both.matches("421 busy )x"));
    }

    #[test]
    fn plain_patterns_match_anywhere() {
        let rule = Pattern::compile("\\[TS0[1-3]\\]").unwrap();
        assert!(rule.matches("421 4.7.0 [TS02] later") && !rule.matches("421 TS02"));
        assert!(Pattern::compile("^421|450").unwrap().matches("x 450"));
        let french = Pattern::compile("(?i)ÉCHEC.{1}\\d").unwrap();
        assert!(french.matches("450 échec\u{e9}7") && !french.matches("450 echec 7"));
        assert!(
            Pattern::compile("refus.$")
                .unwrap()
                .matches("550 refus\u{e9}")
        );
    }

    #[test]
    fn digits_are_told_apart_inside_and_outside_of_classes() {
        for (text, is) in [
            ("a\\d[\\d.]\\d", "a(?-u:\\d)[\\d.](?-u:\\d)"),
            ("[]\\d]\\\\d", "[]\\d]\\\\d"),
            ("[^]\\d[:digit:]\\]]\\d", "[^]\\d[:digit:]\\]](?-u:\\d)"),
        ] {
            assert_eq!(ascii_digits(text), is);
            assert!(Pattern::compile(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_does_not_compile_says_why() {
        for (text, says) in [
            ("a(b", "unclosed group"),
            ("*x", "repetition"),
            ("a(?!b)", "look-around"),
            ("(?!b)a", "look-around"),
            ("^(?!a", "look-around"),
            ("(a)\\1", "backreferences"),
            ("^(?!a)b|c", "parentheses"),
            ("\\d{9999999}", "octets"),
        ] {
            let why = Pattern::compile(text).unwrap_err();
            assert!(why.contains(says) && !why.contains('\n'), "{text}: {why}");
        }
    }
}
