//! Takes a message's octets as they come, unstuffs dots and finds the one true end.
//!
//! Only CR LF ends a line and only CR LF `.` CR LF ends a message. Anything that another server
//! could take for either is refused or rewritten, never passed on (SMTP smuggling).

use memchr::{memchr, memchr3, memmem};

use crate::words::Content;

/// What to do with a CR or LF standing alone (RFC 5321 §2.3.8 forbids both).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEnds {
    #[default]
    Reject,
    /// Each becomes CRLF. A dot after it is content, never an end.
    Normalise,
}

/// Why the content cannot be taken. The first one found counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    #[error("bare CR or LF")]
    BareLineEnd,
    #[error("NUL octet")]
    Nul,
    #[error("too large")]
    TooLarge,
}

/// DATA has stuffed dots and an end of its own, BDAT has neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Dots,
    Counted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind a true CRLF, or at the very start.
    Start,
    Mid,
    /// Behind a CR that is already in the buffer.
    Cr,
    /// Behind a dot at the start of a line; not in the buffer.
    Dot,
    /// Behind such a dot and a CR; neither is in the buffer.
    DotCr,
}

/// Octets judged at once: long enough for wide registers, short enough that the block with the
/// final dot, which takes the careful way, costs little.
const BLOCK: usize = 512;

/// State between two reads. Holds no octets itself.
#[derive(Clone, Debug)]
pub struct Scanner {
    place: Place,
    framing: Framing,
    line_ends: LineEnds,
    fault: Option<ContentFault>,
    eight_bit: bool,
    /// Length the buffer may reach.
    length_max: usize,
}

impl Scanner {
    /// `length_max` counts what the buffer holds already.
    pub const fn new(framing: Framing, line_ends: LineEnds, length_max: usize) -> Self {
        Self {
            place: Place::Start,
            framing,
            line_ends,
            fault: None,
            eight_bit: false,
            length_max,
        }
    }

    pub const fn fault(&self) -> Option<ContentFault> {
        self.fault
    }

    pub const fn eight_bit(&self) -> bool {
        self.eight_bit
    }

    /// Appends `input`'s content to `buffer`; gives the octets consumed, and whether the end was
    /// among them. After a fault the buffer is empty and scanning goes on to the true end.
    pub fn scan(&mut self, input: &[u8], buffer: &mut Vec<u8>) -> (usize, bool) {
        let mut used = 0;
        while used < input.len() {
            let block = &input[used..input.len().min(used + BLOCK)];
            let (taken, end) = if self.fault.is_none() && self.take_plain(block, buffer) {
                (block.len(), false)
            } else {
                self.take_careful(block, buffer)
            };
            used += taken;
            if buffer.len() > self.length_max {
                self.fail(ContentFault::TooLarge, buffer);
            }
            if end {
                return (used, true);
            }
        }
        (used, false)
    }

    /// After the last counted octet: ends the last line if the client did not.
    pub fn finish_counted(&mut self, buffer: &mut Vec<u8>) {
        match self.place {
            Place::Start => {}
            Place::Cr => {
                self.bare(buffer);
                self.put(b"\n", buffer);
            }
            Place::Mid | Place::Dot | Place::DotCr => self.put(b"\r\n", buffer),
        }
        self.place = Place::Start;
        if buffer.len() > self.length_max {
            self.fail(ContentFault::TooLarge, buffer);
        }
    }

    /// Copies a block that holds no NUL, no bare line end and no dot at the start of a line.
    fn take_plain(&mut self, block: &[u8], buffer: &mut Vec<u8>) -> bool {
        let before = match self.place {
            Place::Start => b'\n',
            Place::Mid => b' ',
            Place::Cr => b'\r',
            Place::Dot | Place::DotCr => return false,
        };
        let dots = self.framing == Framing::Dots;
        let Some((&first, rest)) = block.split_first() else {
            return true;
        };
        // No branch inside, so that it compiles to wide compares.
        let mut odd = is_odd(before, first, dots);
        let mut all = first;
        for (&left, &right) in block.iter().zip(rest) {
            odd |= is_odd(left, right, dots);
            all |= right;
        }
        if odd != 0 {
            return false;
        }
        self.eight_bit |= all >= 0x80;
        buffer.extend_from_slice(block);
        self.place = match block[block.len() - 1] {
            b'\n' => Place::Start,
            b'\r' => Place::Cr,
            _ => Place::Mid,
        };
        true
    }

    fn take_careful(&mut self, block: &[u8], buffer: &mut Vec<u8>) -> (usize, bool) {
        let mut at = 0;
        while at < block.len() {
            let byte = block[at];
            match (self.place, byte) {
                (Place::DotCr, b'\n') => return (at + 1, true),
                (Place::DotCr, _) => {
                    self.put(b"\r", buffer);
                    self.place = Place::Cr;
                }
                (Place::Dot, b'\r') => {
                    self.place = Place::DotCr;
                    at += 1;
                }
                (Place::Dot, _) => self.place = Place::Mid,
                (Place::Start, b'.') if self.framing == Framing::Dots => {
                    self.place = Place::Dot;
                    at += 1;
                }
                (Place::Cr, b'\n') => {
                    self.put(b"\n", buffer);
                    self.place = Place::Start;
                    at += 1;
                }
                (Place::Cr, _) => {
                    self.bare(buffer);
                    self.put(b"\n", buffer);
                    self.place = Place::Mid;
                }
                (Place::Start | Place::Mid, _) => at += self.take_run(&block[at..], buffer),
            }
        }
        (at, false)
    }

    /// Text up to and with the next octet that matters.
    fn take_run(&mut self, run: &[u8], buffer: &mut Vec<u8>) -> usize {
        self.place = Place::Mid;
        let stop = memchr3(b'\r', b'\n', 0, run).unwrap_or(run.len());
        self.eight_bit |= !run[..stop].is_ascii();
        self.put(&run[..stop], buffer);
        match run.get(stop) {
            None => return stop,
            Some(b'\r') => {
                self.put(b"\r", buffer);
                self.place = Place::Cr;
            }
            Some(b'\n') => {
                self.bare(buffer);
                self.put(b"\r\n", buffer);
            }
            Some(_) => self.fail(ContentFault::Nul, buffer),
        }
        stop + 1
    }

    fn put(&self, octets: &[u8], buffer: &mut Vec<u8>) {
        if self.fault.is_none() {
            buffer.extend_from_slice(octets);
        }
    }

    fn bare(&mut self, buffer: &mut Vec<u8>) {
        if self.line_ends == LineEnds::Reject {
            self.fail(ContentFault::BareLineEnd, buffer);
        }
    }

    fn fail(&mut self, fault: ContentFault, buffer: &mut Vec<u8>) {
        self.fault.get_or_insert(fault);
        *buffer = Vec::new();
    }
}

#[inline]
fn is_odd(left: u8, right: u8, dots: bool) -> u8 {
    let bare = u8::from(left == b'\r') ^ u8::from(right == b'\n');
    let dot = u8::from(left == b'\n') & u8::from(right == b'.') & u8::from(dots);
    // A LF before the block's first octet is a true line end already, hence not looked at again.
    bare | dot | u8::from(right == 0)
}

/// What a whole message says of itself: its needs, and how many hops it has behind it.
pub fn survey(message: &[u8], eight_bit: bool) -> (Content, u16) {
    let header = header_of(message);
    let content = Content {
        eight_bit,
        utf8_header: eight_bit && !header.is_ascii(),
    };
    let mut received = 0u16;
    let mut rest = header;
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        if is_received(&rest[..end]) {
            received = received.saturating_add(1);
        }
        rest = &rest[end..];
    }
    (content, received)
}

fn header_of(message: &[u8]) -> &[u8] {
    if message.starts_with(b"\r\n") {
        return &[];
    }
    memmem::find(message, b"\r\n\r\n").map_or(message, |at| &message[..at + 2])
}

fn is_received(line: &[u8]) -> bool {
    let Some((name, rest)) = line.split_at_checked(8) else {
        return false;
    };
    // RFC 5322 §4.5: obsolete syntax has white space before the colon.
    name.eq_ignore_ascii_case(b"received") && rest.trim_ascii_start().starts_with(b":")
}

/// For fuzzing: takes `input` as DATA and as BDAT, cut every `step` octets, and checks what must
/// hold of any input.
pub fn exercise(input: &[u8], step: usize, line_ends: LineEnds) {
    for framing in [Framing::Dots, Framing::Counted] {
        let (content, used, end, scanner) = take(input, input.len(), framing, line_ends);
        let (pieces, used_cut, end_cut, cut) = take(input, step, framing, line_ends);
        let seen = (used, end);
        assert_eq!(seen, (used_cut, end_cut), "cuts do not move the end");
        assert_eq!(scanner.fault(), cut.fault(), "cuts do not change the fault");
        assert_eq!(content, pieces, "cuts do not change the content");
        if !end || scanner.fault().is_some() {
            continue;
        }
        assert_eq!(scanner.eight_bit(), cut.eight_bit());
        let lf = memchr::memchr_iter(b'\n', &content).count();
        let cr = memchr::memchr_iter(b'\r', &content).count();
        assert_eq!(memmem::find_iter(&content, b"\r\n").count(), lf.max(cr));
        assert!(content.is_empty() || content.ends_with(b"\r\n"));
        if framing == Framing::Counted && line_ends == LineEnds::Reject {
            let rest = content.strip_prefix(input).expect("nothing is changed");
            assert!(rest.is_empty() || rest == b"\r\n" && !input.ends_with(b"\r\n"));
            assert_eq!(scanner.eight_bit(), !input.is_ascii());
        }
    }
}

/// The content, the octets used and whether the end was among them: counted content ends with them.
fn take(
    input: &[u8],
    step: usize,
    framing: Framing,
    line_ends: LineEnds,
) -> (Vec<u8>, usize, bool, Scanner) {
    let mut content = Vec::new();
    let mut scanner = Scanner::new(framing, line_ends, 1 << 20);
    let (mut used, mut end) = (0, false);
    for piece in input.chunks(step.max(1)) {
        let (taken, ended) = scanner.scan(piece, &mut content);
        used += taken;
        end = ended;
        if end {
            break;
        }
    }
    if framing == Framing::Counted {
        assert_eq!((used, end), (input.len(), false), "no octet ends a chunk");
        scanner.finish_counted(&mut content);
        end = true;
    }
    (content, used, end, scanner)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Seen = (Vec<u8>, usize, bool, Option<ContentFault>);

    fn run(input: &[u8], line_ends: LineEnds) -> Seen {
        let mut buffer = Vec::new();
        let mut scanner = Scanner::new(Framing::Dots, line_ends, 100_000);
        let (used, end) = scanner.scan(input, &mut buffer);
        for step in 1..=input.len().min(9) {
            exercise(input, step, line_ends);
        }
        (buffer, used, end, scanner.fault())
    }

    #[test]
    fn dots_are_unstuffed_and_the_end_is_found() {
        for (input, content) in [
            (&b".\r\n"[..], &b""[..]),
            (b"\r\n.\r\n", b"\r\n"),
            (b"..\r\n.\r\n", b".\r\n"),
            (b"..x\r\n.y\r\nz.\r\n.\r\n", b".x\r\ny\r\nz.\r\n"),
            (b".. \r\n...\r\n.\r\n", b". \r\n..\r\n"),
        ] {
            let mut pipelined = input.to_vec();
            pipelined.extend_from_slice(b"QUIT\r\n");
            let seen = run(&pipelined, LineEnds::Reject);
            assert_eq!(seen, (content.to_vec(), input.len(), true, None));
        }
    }

    #[test]
    fn smuggled_ends_are_refused_at_the_true_end() {
        for middle in [
            "\n.\n",
            "\n.\r\n",
            "\r.\r",
            "\r.\r\n",
            "\r\n.\n",
            "\r\n.\r",
            "\r\n.\r\r\n",
            "\r\r\n",
            "\n\n.\r\n",
        ] {
            let input = format!("a{middle}MAIL FROM:<b@c>\r\n.\r\n");
            let seen = run(input.as_bytes(), LineEnds::Reject);
            let bare = Some(ContentFault::BareLineEnd);
            assert_eq!(seen, (Vec::new(), input.len(), true, bare), "{middle:?}");
            let (content, used, end, fault) = run(input.as_bytes(), LineEnds::Normalise);
            assert_eq!((used, end, fault), (input.len(), true, None), "{middle:?}");
            assert!(
                memmem::find(&content, b"MAIL").is_some(),
                "content, not a command"
            );
        }
    }

    #[test]
    fn the_edge_of_a_block_hides_nothing() {
        const BARE: Result<&str, ContentFault> = Err(ContentFault::BareLineEnd);
        const NUL: Result<&str, ContentFault> = Err(ContentFault::Nul);
        for offset in BLOCK - 7..=BLOCK + 8 {
            let before = "x".repeat(offset);
            for (odd, strict, lax) in [
                ("\r\n..\r\n", Ok("\r\n.\r\n"), Ok("\r\n.\r\n")),
                ("\r\n.y", Ok("\r\ny"), Ok("\r\ny")),
                ("\r", BARE, Ok("\r\n")),
                ("\n", BARE, Ok("\r\n")),
                ("\r\r\n", BARE, Ok("\r\n\r\n")),
                ("\n.\r\n", BARE, Ok("\r\n.\r\n")),
                ("\r\n.\n", BARE, Ok("\r\n\r\n")),
                ("\0", NUL, NUL),
            ] {
                let input = format!("{before}{odd}z\r\n.\r\nNOOP\r\n");
                for (line_ends, expected) in
                    [(LineEnds::Reject, strict), (LineEnds::Normalise, lax)]
                {
                    let (content, used, end, fault) = run(input.as_bytes(), line_ends);
                    assert_eq!((used, end), (input.len() - 6, true), "{odd:?} at {offset}");
                    let expected = expected.map(|odd| format!("{before}{odd}z\r\n").into_bytes());
                    assert_eq!(
                        fault.map_or(Ok(content), Err),
                        expected,
                        "{odd:?} at {offset}"
                    );
                }
            }
        }
    }

    #[test]
    fn nul_is_refused_and_eight_bit_noticed() {
        let seen = run(b"a\0b\r\n.\r\n", LineEnds::Normalise);
        assert_eq!(seen, (Vec::new(), 8, true, Some(ContentFault::Nul)));
        let mut scanner = Scanner::new(Framing::Dots, LineEnds::Reject, 100);
        scanner.scan("ü\r\n.\r\n".as_bytes(), &mut Vec::new());
        assert!(scanner.eight_bit());
    }

    #[test]
    fn too_much_is_swallowed_to_the_end() {
        let mut scanner = Scanner::new(Framing::Dots, LineEnds::Reject, 1000);
        let mut buffer = Vec::new();
        let mut input = b"x".repeat(5000);
        input.extend_from_slice(b"\r\n.\r\nNOOP");
        assert_eq!(scanner.scan(&input, &mut buffer), (5005, true));
        assert_eq!(scanner.fault(), Some(ContentFault::TooLarge));
        assert_eq!(buffer.capacity(), 0);
        // In one block with the end.
        for (octets, fault) in [(998, None), (999, Some(ContentFault::TooLarge))] {
            let mut scanner = Scanner::new(Framing::Dots, LineEnds::Reject, 1000);
            let input = [b"x".repeat(octets), b"\r\n.\r\n".to_vec()].concat();
            assert_eq!(scanner.scan(&input, &mut buffer), (octets + 5, true));
            assert_eq!(scanner.fault(), fault);
            buffer.clear();
        }
    }

    #[test]
    fn hops_are_counted_in_the_header_alone() {
        let text = "Received: a\r\n\tReceived: b\r\nRECEIVED : c\r\n\r\nReceived: d\r\n";
        assert_eq!(survey(text.as_bytes(), false), (Content::default(), 2));
        let (content, hops) = survey("S: ü\r\n\r\n".as_bytes(), true);
        assert!(content.utf8_header && content.eight_bit && hops == 0);
        assert!(!survey("\r\nü".as_bytes(), true).0.utf8_header);
    }

    #[test]
    fn every_short_content_ends_where_the_rfc_says() {
        const OCTETS: [u8; 4] = *b"a.\r\n";
        for number in 0..4u32.pow(8) {
            let digit = |at: u32| OCTETS[(number >> (2 * at) & 3) as usize];
            let input: Vec<u8> = (0..8).map(digit).collect();
            let end = memmem::find(&[b"\r\n", &input[..]].concat(), b"\r\n.\r\n");
            let mut buffer = Vec::new();
            let mut scanner = Scanner::new(Framing::Dots, LineEnds::Reject, 100);
            let seen = scanner.scan(&input, &mut buffer);
            let expected = end.map_or((8, false), |at| (at + 3, true));
            assert_eq!(seen, expected, "{input:?}");
            for step in [1, 2, 3, 5] {
                exercise(&input, step, LineEnds::Reject);
                exercise(&input, step, LineEnds::Normalise);
            }
        }
    }
}
