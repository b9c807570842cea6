//! What bounds a server session: where its lines end.

use super::data::LineEnds;
use super::server_tests::{Client, HEAD};

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
