//! JSON into the tree (RFC 8259), with places, which serde_json does not give.

use std::borrow::Cow;

use super::super::fault::Wrong;
use super::node::{Entry, Node, Tree};

/// Tables and lists inside each other.
const DEPTH_MAX: usize = 32;

pub(super) fn read<'t>(text: &'t str, fault: &mut dyn FnMut(usize, Wrong)) -> Vec<Entry<'t>> {
    let mut reader = Reader { text, at: 0 };
    let wrong = match reader.document() {
        Ok(Tree::Table(entries)) => return entries,
        Ok(other) => (0, Wrong::Syntax(format!("a JSON object, but {other}"))),
        Err(what) => (reader.at, Wrong::Syntax(format!("JSON: {what}"))),
    };
    fault(wrong.0, wrong.1);
    Vec::new()
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

type Read<T> = Result<T, &'static str>;

impl<'t> Reader<'t> {
    fn document(&mut self) -> Read<Tree<'t>> {
        let node = self.value(0)?;
        self.space();
        if self.at < self.text.len() {
            return Err("text after the end");
        }
        Ok(node.tree)
    }

    fn value(&mut self, depth: usize) -> Read<Node<'t>> {
        if depth > DEPTH_MAX {
            return Err("too deep");
        }
        self.space();
        let offset = self.at;
        let tree = match self.peek() {
            Some(b'{') => self.table(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Tree::Text(self.string()?),
            Some(b't') => self.word("true", Tree::Flag(true))?,
            Some(b'f') => self.word("false", Tree::Flag(false))?,
            Some(b'n') => self.word("null", Tree::Foreign("null"))?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return Err("a value is missing"),
        };
        Ok(Node { offset, tree })
    }

    fn table(&mut self, depth: usize) -> Read<Tree<'t>> {
        self.at += 1;
        let mut entries: Vec<Entry<'t>> = Vec::new();
        if self.closes(b'}') {
            return Ok(Tree::Table(entries));
        }
        loop {
            self.space();
            let offset = self.at;
            if self.peek() != Some(b'"') {
                return Err("a key is missing");
            }
            let key = self.string()?;
            self.space();
            self.expect(b':', "a colon is missing")?;
            let node = self.value(depth + 1)?;
            entries.push(Entry { key, offset, node });
            if self.closes(b'}') {
                break;
            }
            self.expect(b',', "a comma or closing brace is missing")?;
        }
        let mut keys: Vec<&str> = entries.iter().map(|entry| &*entry.key).collect();
        keys.sort_unstable();
        let twice = keys.windows(2).any(|pair| pair[0] == pair[1]);
        drop(keys);
        if twice {
            return Err("a key stands twice in the object that ends here");
        }
        Ok(Tree::Table(entries))
    }

    fn list(&mut self, depth: usize) -> Read<Tree<'t>> {
        self.at += 1;
        let mut items = Vec::new();
        if self.closes(b']') {
            return Ok(Tree::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.closes(b']') {
                return Ok(Tree::List(items));
            }
            self.expect(b',', "a comma or closing bracket is missing")?;
        }
    }

    /// Escapes are serde_json's business; only the end of the string is found here.
    fn string(&mut self) -> Read<Cow<'t, str>> {
        let start = self.at;
        let mut escaped = false;
        let bytes = self.text.as_bytes();
        loop {
            self.at += 1;
            match bytes.get(self.at) {
                None => return Err("a string has no end"),
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                }
                Some(0..0x20) => return Err("a string has a control character"),
                Some(_) => {}
            }
        }
        self.at += 1;
        if !escaped {
            return Ok(Cow::Borrowed(&self.text[start + 1..self.at - 1]));
        }
        self.text
            .get(start..self.at)
            .and_then(|quoted| serde_json::from_str(quoted).ok())
            .map(Cow::Owned)
            .ok_or("a string has a wrong escape")
    }

    fn number(&mut self) -> Read<Tree<'t>> {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(rest.len());
        let number: serde_json::Number =
            serde_json::from_str(&rest[..end]).map_err(|_| "a malformed number")?;
        self.at += end;
        Ok(match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Tree::Number(whole),
            (None, Some(decimal)) => Tree::Decimal(decimal),
            (None, None) => Tree::Foreign("a number beyond 64 bits"),
        })
    }

    fn word(&mut self, word: &str, tree: Tree<'t>) -> Read<Tree<'t>> {
        if !self.text[self.at..].starts_with(word) {
            return Err("a value is missing");
        }
        self.at += word.len();
        Ok(tree)
    }

    fn closes(&mut self, bracket: u8) -> bool {
        self.space();
        self.expect(bracket, "").is_ok()
    }

    fn expect(&mut self, byte: u8, otherwise: &'static str) -> Read<()> {
        self.space();
        if self.peek() != Some(byte) {
            return Err(otherwise);
        }
        self.at += 1;
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Result<String, String> {
        let mut wrong = None;
        let entries = read(text, &mut |offset, what| {
            wrong = Some(format!("{offset}: {what}"))
        });
        wrong.map_or_else(|| Ok(show(&Tree::Table(entries))), Err)
    }

    fn show(tree: &Tree<'_>) -> String {
        if let Some(entries) = tree.table() {
            let each = |e: &Entry<'_>| format!("{}@{}={}", e.key, e.offset, show(&e.node.tree));
            let each: Vec<String> = entries.iter().map(each).collect();
            return format!("{{{}}}", each.join(" "));
        }
        let Some(items) = tree.list() else {
            return tree.to_string();
        };
        let each: Vec<String> = items.iter().map(|item| show(&item.tree)).collect();
        format!("[{}]", each.join(" "))
    }

    #[test]
    fn json_is_read_with_its_places() {
        assert_eq!(
            told("{\"a\": {\"b\": [1, -2.5, true, null]}, \"c\\n\": \"\\u00e9\"}").unwrap(),
            "{a@1={b@7=[1 -2.5 true null]} c\n@36=\"é\"}"
        );
        assert_eq!(told(" {} ").unwrap(), "{}");
    }

    #[test]
    fn broken_json_is_a_fault_and_never_a_panic() {
        for text in [
            "",
            "[]",
            "{",
            "{\"",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,}",
            "{\"a\":tru}",
            "{\"a\":\"\\",
            "{\"a\":\"\\x\"}",
            "{\"a\":1}x",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\é\"}",
        ] {
            assert!(told(text).is_err(), "{text:?}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(99), "]".repeat(99));
        assert!(told(&deep).unwrap_err().contains("too deep"));
    }
}
