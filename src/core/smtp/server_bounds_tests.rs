//! What bounds a server session: line ends, time, shutdown, errors, what a parameter or a chunk
//! may hold.

use core::time::Duration;

use super::data::LineEnds;
use super::server::Rejection;
use super::server_tests::{Client, HEAD, NOW, code_of};
use crate::words::{Address, Content};

const HOUR: Duration = Duration::from_secs(3600);
const IDLE: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);

fn client_under(line_ends: LineEnds) -> Client {
    Client::with(|config| config.line_ends = line_ends)
}

#[test]
fn only_cr_lf_ends_a_command() {
    for end in [
        "\r\r\n",
        "\r \r\n",
        "\u{b}\r\n",
        "\u{c}\r\n",
        "\0\r\n",
        "\u{1a}\r\n",
        "\u{7f}\r\n",
    ] {
        for line_ends in [LineEnds::Reject, LineEnds::Normalise] {
            let mut client = client_under(line_ends);
            let text = format!(
                "EHLO c.test{end}EHLO c.test\r\nMAIL FROM:<>{end}MAIL FROM:<>\r\nRCPT TO:<r@d.test>{end}\
                 DATA{end}DATA\r\nNOOP{end}QUIT{end}NOOP \t\r\n"
            );
            let codes = [500, 250, 500, 250, 500, 500, 554, 500, 500, 250];
            assert_eq!(client.codes(&text), codes, "{end:?} {line_ends:?}");
        }
    }
    for line in [
        "\rNOOP\r\n",
        "NO\rOP\r\n",
        "NOOP\rQUIT\r\n",
        "NOOP\r\u{1}\n\r\n",
    ] {
        let mut client = Client::new();
        assert_eq!(client.codes(line)[0], 500, "{line:?}");
        assert!(!client.closed, "{line:?}");
    }
}

#[test]
fn a_bare_lf_ends_a_command_where_line_ends_are_normalised() {
    let text = "NOOP\nEHLO c.test\nNOOP\r\n";
    assert_eq!(client_under(LineEnds::Reject).codes(text), [500, 500, 250]);
    assert_eq!(client_under(LineEnds::Normalise).codes(text), [250; 3]);
}

#[test]
fn what_a_refused_chunk_announced_is_no_command() {
    for line in [
        "BDAT 6 LAST\r\r\n",
        "BDAT 6\u{c}\r\n",
        "bdat\r6\r\n",
        "BDAT 6 LAST\n",
        "BDAT  6 FIRST\r\n",
    ] {
        let mut client = Client::new();
        let codes = client.codes(&format!("{HEAD}{line}QUIT\r\nNOOP\r\nDATA\r\n"));
        assert!(matches!(codes[3], 500 | 501), "{line:?} {codes:?}");
        assert_eq!(codes[4..], [250, 503], "{line:?}");
    }
    for line in ["BDATA 6\r\n", "BDAT6\r\n", "BDAT x 6\r\n", "BDAT\r\n"] {
        assert_eq!(Client::new().codes(&format!("{line}NOOP\r\n")).len(), 2);
    }
}

#[test]
fn what_an_over_long_chunk_command_announced_is_no_command() {
    let blank = " ".repeat(3000);
    let chunk = "x".repeat(3000);
    for line in [
        format!("BDAT 6 LAST{blank}\r\n"),
        format!("bdat\t6 {chunk}\r\n"),
        format!("BDAT{}6 LAST{blank}\n", " ".repeat(400)),
    ] {
        let text = format!("{HEAD}{line}QUIT\r\nNOOP\r\nDATA\r\n");
        let codes = Client::new().codes(&text);
        assert_eq!(codes[3..], [500, 250, 503], "{line:.20}");
        for piece in [1, 7, 600] {
            let mut client = Client::new();
            text.as_bytes()
                .chunks(piece)
                .for_each(|part| client.give(part));
            assert!(client.said.contains("\r\n500 5.5.2 "), "{line:.20}");
            assert!(client.said.ends_with("\r\n503 5.5.1 Say MAIL first\r\n"));
            assert!(!client.closed, "{piece} {line:.20}");
        }
    }
    // Where the number is not in what is kept, nothing that follows can be told from content.
    for line in [
        format!("BDAT{blank}6 LAST\r\n"),
        format!("BDAT {}\r\n", "6".repeat(3000)),
        format!("BDAT x{chunk}\r\n"),
    ] {
        let mut client = Client::new();
        let codes = client.codes(&format!("{HEAD}{line}QUIT\r\nNOOP\r\n"));
        assert_eq!(codes[3..], [421], "{line:.20}");
        assert!(client.closed, "{line:.20}");
    }
    // Other commands are none of this.
    let mut client = Client::new();
    let text = format!("{HEAD}NOOP 6{blank}\r\nBDATA 6{blank}\r\nDATA\r\n");
    assert_eq!(client.codes(&text)[3..], [500, 500, 354]);
}

#[test]
fn a_chunk_of_a_size_beyond_all_numbers_has_no_end() {
    for digits in ["18446744073709551616", "999999999999999999999999999"] {
        let mut client = Client::new();
        let codes = client.codes(&format!("{HEAD}BDAT {digits}\r\nQUIT\r\nNOOP\r\n"));
        assert_eq!(codes[3..], [501], "{digits}");
        assert!(!client.closed);
    }
}

/// What became of the session, as its records tell it.
fn told(client: &mut Client) -> Vec<String> {
    let unfinished = client.session.take_refusals().unfinished;
    let rejections = client.session.take_rejections().kept;
    assert_eq!(unfinished as usize, rejections.len());
    let tell = |r: &Rejection| format!("{} {:?} {}", r.command, r.sender, r.reply);
    rejections.iter().map(tell).collect()
}

/// The reply that stands for an end of the connection, and what brings it about.
type End<'a> = (&'a str, &'a dyn Fn(&mut Client));

#[test]
fn a_message_whose_connection_ends_in_its_midst_is_told_of_once() {
    for (begun, command) in [
        ("DATA\r\n", Some("DATA")),
        ("DATA\r\nhalf a mess", Some("DATA")),
        ("DATA\r\nall but\r\n.\r", Some("DATA")),
        ("BDAT 9 LAST\r\n12345678", Some("BDAT")),
        ("BDAT 3\r\nabcBDAT 3 LA", Some("BDAT")),
        ("", None),
        ("DATA\r\nwhole\r\n.\r\n", None),
        ("BDAT 3\r\nabcRSET\r\n", None),
        ("BDAT 3\r\nabcQUIT\r\n", None),
        // It has been told of as refused.
        ("BDAT 99999999999 LAST\r\nx", Some("refused")),
    ] {
        let ends: [End<'_>; 3] = [
            (
                "451 4.4.2 The client left before the end of its message",
                &|_| {},
            ),
            ("421 4.4.2 Timeout", &|client| {
                client.session.handle_timeout(NOW + HOUR);
            }),
            ("421 4.3.2 Shutting down", &|client| {
                client.session.handle_cut(NOW)
            }),
        ];
        for (reply, end) in ends {
            let mut client = Client::new();
            client.give(format!("{HEAD}{begun}").as_bytes());
            if command == Some("refused") {
                assert_eq!(client.session.take_rejections().kept.len(), 1);
            }
            end(&mut client);
            client.session.handle_closed(NOW);
            let sender = Address::parse("s@c.test").ok();
            let wanted = command.filter(|command| *command != "refused");
            let wanted = wanted.map(|command| format!("{command} {sender:?} {reply}"));
            assert_eq!(
                told(&mut client),
                Vec::from_iter(wanted),
                "{begun:?} {reply}"
            );
        }
    }
}

/// Gives `octets` each minute until the session ends: how long that took.
fn time_with(client: &mut Client, octets: &str) -> Duration {
    for _ in 0..1000 {
        client.now = client.now + MINUTE;
        let ends_at = client.session.poll_timeout().unwrap();
        client.session.handle_timeout(client.now);
        client.drain();
        if ends_at <= client.now {
            assert!(client.closed && client.said.ends_with("421 4.4.2 Timeout\r\n"));
            return ends_at.since(NOW);
        }
        assert!(!client.closed, "{}", client.said);
        client.give(octets.as_bytes());
    }
    panic!("the session goes on for ever");
}

#[test]
fn no_client_stays_beyond_its_session() {
    let too_large = format!("DATA\r\n{}", "x".repeat(3000));
    for (begin, octets) in [
        ("", "NOOP\r\n"),
        ("DATA\r\n", "x"),
        (&too_large, "x"),
        ("BDAT 1000\r\n", "x"),
        ("BDAT 100000000 LAST\r\n", "x"),
    ] {
        let mut client = Client::with(|config| config.limits.message_octets_max = 2000);
        client.say(&format!("{HEAD}{begin}"));
        assert_eq!(
            time_with(&mut client, octets),
            HOUR,
            "{octets:?} after {begin:?}"
        );
        assert!(client.submissions.is_empty());
    }
    let mut client = Client::with(|config| config.limits.session = Duration::from_secs(90));
    assert_eq!(time_with(&mut client, "NOOP\r\n").as_secs(), 90);
}

#[test]
fn a_part_of_a_line_is_silence() {
    let long = "x".repeat(3000);
    for begin in ["", "NOO", &long, HEAD, "EHLO c.test\r\nMAIL FROM:<"] {
        let mut client = Client::new();
        client.say(begin);
        assert_eq!(time_with(&mut client, "x"), IDLE, "after {begin:?}");
    }
    let mut client = Client::new();
    client.now = NOW + MINUTE;
    client.say("NOOP\r\n");
    assert_eq!(client.session.poll_timeout(), Some(NOW + MINUTE + IDLE));
}

#[test]
fn shutdown_comes_between_chunks() {
    let shut_down = |begin: &str| {
        let mut client = Client::new();
        client.say(&format!("{HEAD}{begin}"));
        client.said.clear();
        client.session.handle_shutdown(NOW);
        client.drain();
        client
    };
    let mut midway = shut_down("BDAT 4\r\na\r");
    assert_eq!((midway.said.as_str(), midway.closed), ("", false));
    assert_eq!(midway.codes("\nb"), [250, 421]);
    assert!(midway.closed && midway.submissions.is_empty());

    let mut last = shut_down("BDAT 4 LAST\r\na");
    assert_eq!((last.said.as_str(), last.closed), ("", false));
    assert_eq!(last.codes("b\r\n"), [250, 421]);
    assert!(last.closed && last.submissions.len() == 1);

    let between = shut_down("BDAT 3\r\na\r\n");
    assert_eq!(between.said, "421 4.3.2 Shutting down\r\n");
    assert!(between.closed && between.submissions.is_empty());
}

#[test]
fn an_accepted_message_clears_the_errors_before_it() {
    let client = || Client::with(|config| config.limits.errors_max = 2);
    assert_eq!(client().codes(&"FOO\r\n".repeat(5)), [500, 500, 500, 421]);
    let text = format!("FOO\r\nFOO\r\n{HEAD}DATA\r\nx\r\n.\r\nFOO\r\nFOO\r\nNOOP\r\nFOO\r\n");
    let codes = [500, 500, 250, 250, 250, 354, 250, 500, 500, 250, 500, 421];
    assert_eq!(client().codes(&text), codes);
    let text = format!("FOO\r\nFOO\r\n{HEAD}DATA\r\n\0\r\n.\r\nNOOP\r\n");
    assert_eq!(client().codes(&text)[5..], [354, 554, 421]);
}

#[test]
fn parameters_are_bounded_and_come_once() {
    let envid = |octets: usize| format!("ENVID={}", "e".repeat(octets));
    let encoded = |octets: usize| format!("ENVID={}+2B", "e".repeat(octets - 3));
    let mut wrong: Vec<String> = Vec::new();
    for (parameters, code) in [
        (envid(100), 250),
        (envid(101), 501),
        (encoded(100), 250),
        (encoded(101), 501),
        ("BODY=7BIT BODY=8BITMIME".into(), 501),
        ("SIZE=1 size=2".into(), 501),
        ("SMTPUTF8 SMTPUTF8".into(), 501),
        ("RET=FULL RET=HDRS".into(), 501),
        ("ENVID=a ENVID=b".into(), 501),
        ("RET=FULL BODY=7BIT ENVID=a SIZE=1 SMTPUTF8".into(), 250),
    ] {
        let text = format!("EHLO c\r\nMAIL FROM:<> {parameters}\r\n");
        if code_of(&text) != code {
            wrong.push(parameters);
        }
    }
    let orcpt = |octets: usize| format!("ORCPT=rfc822;{}", "o".repeat(octets - 7));
    for (parameters, code) in [
        (orcpt(500), 250),
        (orcpt(501), 501),
        ("ORCPT=rfc822;a ORCPT=rfc822;b".into(), 501),
        ("NOTIFY=DELAY notify=FAILURE".into(), 501),
    ] {
        let text = format!("EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<r@d.test> {parameters}\r\n");
        if code_of(&text) != code {
            wrong.push(parameters);
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn nul_is_refused_in_chunks() {
    for line_ends in [LineEnds::Reject, LineEnds::Normalise] {
        let mut whole = client_under(line_ends);
        let codes = whole.codes(&format!("{HEAD}BDAT 3 LAST\r\na\0bNOOP\r\n"));
        assert_eq!(codes[3..], [554, 250]);
        let mut first = client_under(line_ends);
        let codes = first.codes(&format!("{HEAD}BDAT 3\r\na\0bBDAT 1 LAST\r\nxNOOP\r\n"));
        assert_eq!(codes[3..], [554, 503, 250]);
        assert!(whole.submissions.is_empty() && first.submissions.is_empty());
    }
}

#[test]
fn eight_bit_content_is_seen_in_chunks() {
    let parts = |text: [&'static str; 2]| text.map(str::as_bytes);
    for (parts, eight_bit, utf8_header) in [
        (parts(["Subject: u\r\n", "\r\nx\r\n"]), false, false),
        (parts(["Subject: u\r\n", "\r\nü\r\n"]), true, false),
        (parts(["Subject: ü\r\n", "\r\nx\r\n"]), true, true),
        ([b"Subject: \xc3", b"\xbc\r\n\r\nx\r\n"], true, true),
    ] {
        let mut client = Client::new();
        client.say("EHLO c\r\nMAIL FROM:<> BODY=8BITMIME\r\nRCPT TO:<r@d.test>\r\n");
        client.give(format!("BDAT {}\r\n", parts[0].len()).as_bytes());
        client.give(parts[0]);
        client.give(format!("BDAT {} LAST\r\n", parts[1].len()).as_bytes());
        client.give(parts[1]);
        let submission = &client.submissions[0];
        let content = Content {
            eight_bit,
            utf8_header,
        };
        assert_eq!(submission.content, content, "{parts:?}");
        assert_eq!(submission.data[6..], parts.concat());
    }
}
