//! How connections end: at RSET, after QUIT, while idle. Work that nothing was decided about comes back.

use core::time::Duration;

use super::*;
use crate::smtp::client::Timeouts;

#[derive(Clone, Copy, Debug)]
enum Ending {
    Reply(&'static str),
    Drop,
    Silence,
}

const ENDINGS: [Ending; 6] = [
    Ending::Reply("421 4.3.2 bye\r\n"),
    Ending::Reply("450 4.0.0 no\r\n"),
    Ending::Reply("500 5.5.1 what?\r\n"),
    Ending::Reply("?!\r\n"),
    Ending::Drop,
    Ending::Silence,
];

/// Each wait a different one.
fn config(pipelining: bool) -> Config {
    Config {
        pipelining,
        timeouts: Timeouts {
            rset: Duration::from_secs(7),
            quit: Duration::from_secs(3),
            ..Timeouts::default()
        },
        ..Config::new("me.example")
    }
}

fn end(bench: &mut Bench, ending: Ending, patience: Duration) {
    match ending {
        Ending::Reply(text) => {
            bench.say(text);
        }
        Ending::Drop => {
            bench.close();
        }
        Ending::Silence => {
            let due = bench.dialogue.poll_timeout().unwrap();
            assert_eq!(due, T0 + patience);
            bench
                .dialogue
                .handle_timeout(T0 + patience - Duration::from_micros(1));
            bench.pump();
            let is_over = matches!(bench.log.last(), Some(Action::Closed { .. }));
            assert!(!is_over, "its time is not over");
            bench.dialogue.handle_timeout(due);
            bench.pump();
        }
    }
}

/// The first transaction is refused so that RSET is due; the next, of three, rides with it or waits
/// for its reply.
fn at_rset(pipelining: bool) -> Bench {
    let mut bench = Bench::new(config(pipelining), &[(1, 1), (2, 1), (3, 1)]);
    bench.say("220 x\r\n").say(PIPELINING).say("250 ok\r\n");
    bench.say("550 5.1.1 no\r\n");
    if pipelining {
        bench.say("503 5.5.1 no recipients\r\n");
        assert!(bench.last_write().starts_with("RSET\r\nMAIL"));
    } else {
        assert_eq!(bench.last_write(), "RSET\r\n");
    }
    bench
}

#[test]
fn whatever_rset_meets_the_next_transaction_comes_back() {
    for pipelining in [true, false] {
        for ending in ENDINGS {
            let mut bench = at_rset(pipelining);
            let written = bench.writes.len();
            end(&mut bench, ending, Duration::from_secs(7));
            // What the peer says to the commands behind RSET is of no account.
            bench.say("250 ok\r\n250 ok\r\n354 go\r\n").close();
            assert_eq!(stage_of(bench.outcome(1, 0)), Some((Stage::Rcpt, true)));
            assert_eq!(bench.returned(), [2], "{ending:?}");
            assert_eq!(bench.work.len(), 1, "the third was not asked for");
            assert_eq!(bench.log.len(), 3, "{ending:?}: {:?}", bench.log);
            assert_eq!(bench.writes.len(), written, "{ending:?}: nothing follows");
            let Some(Action::Closed {
                cause: Some(cause),
                before_ready: false,
            }) = bench.log.last()
            else {
                panic!("{ending:?}: {:?}", bench.log)
            };
            assert!(cause.blames_site());
            let stage = stage_of(&Outcome::Deferred(cause.clone()));
            assert_eq!(stage, Some((Stage::Rset, false)), "{ending:?}");
        }
    }
}

#[test]
fn what_was_answered_behind_rset_is_deferred_and_not_returned() {
    for pipelining in [true, false] {
        for ending in ENDINGS {
            let mut bench = at_rset(pipelining);
            bench.say("250 reset\r\n").say("250 sender\r\n");
            let patience = config(pipelining).timeouts.rcpt;
            end(&mut bench, ending, patience);
            let is_over = matches!(bench.log.last(), Some(Action::Closed { .. }));
            let Ending::Reply(text @ ("450 4.0.0 no\r\n" | "500 5.5.1 what?\r\n")) = ending else {
                assert!(is_over && bench.returned().is_empty(), "{ending:?}");
                assert_eq!(stage_of(bench.outcome(2, 0)), Some((Stage::Rcpt, false)));
                continue;
            };
            assert!(!is_over, "{ending:?} is to the recipient");
            if pipelining {
                bench.say("503 5.5.1 no recipients\r\n");
            }
            let is_permanent = text.starts_with('5');
            assert_eq!(
                stage_of(bench.outcome(2, 0)),
                Some((Stage::Rcpt, is_permanent))
            );
            assert!(bench.last_write().starts_with("RSET\r\n"));
        }
    }
}

#[test]
fn after_quit_whatever_comes_is_nobodys_fault() {
    let bye = [Ending::Reply("221 bye\r\n"), Ending::Reply("354 go\r\n")];
    for ending in ENDINGS.into_iter().chain(bye) {
        let mut bench = Bench::new(config(true), &[(1, 1)]);
        bench.say("220 x\r\n").say(PIPELINING);
        bench.say(OK2).say("250 q\r\n");
        bench.dialogue.handle_quit(T0);
        bench.pump();
        assert_eq!(bench.last_write(), "QUIT\r\n");
        end(&mut bench, ending, Duration::from_secs(3));
        assert!(matches!(bench.outcome(1, 0), Outcome::Delivered(_)));
        let closed = Action::Closed {
            cause: None,
            before_ready: false,
        };
        assert_eq!(bench.log.last(), Some(&closed), "{ending:?}");
        assert_eq!(bench.dialogue.poll_timeout(), None);
        let told = bench.log.len();
        bench.say("250 more\r\n").close();
        assert_eq!(bench.log.len(), told, "{ending:?}: the end is told once");
    }
}

#[test]
fn quit_ends_politely() {
    let mut bench = Bench::plain(&[(1, 1), (2, 1)]);
    bench.say("220 x\r\n").say(PIPELINING);
    bench.dialogue.handle_quit(T0);
    bench.pump();
    bench.say(OK2).say("250 q\r\n");
    assert_eq!(bench.last_write(), "QUIT\r\n");
    bench.say("221 bye\r\n");
    assert!(matches!(bench.outcome(1, 0), Outcome::Delivered(_)));
    assert_eq!(
        bench.log.last(),
        Some(&Action::Closed {
            cause: None,
            before_ready: false
        })
    );
    bench
        .dialogue
        .handle_transaction(transaction(9, message(9, 1)), T0);
    bench.pump();
    assert_eq!(bench.returned(), [9], "too late for this connection");
}

#[test]
fn an_idle_connection_may_end_without_blame() {
    for ending in ["421 idle too long\r\n", ""] {
        let mut bench = Bench::plain(&[]);
        bench.say("220 x\r\n").say(PIPELINING).say(ending).close();
        let closed = Action::Closed {
            cause: None,
            before_ready: false,
        };
        assert_eq!(bench.log, [Action::Idle, closed]);
    }
}

#[test]
fn a_cut_ends_all_but_the_wait_for_a_dot() {
    let answers = [
        "220 x\r\n",
        "250 me\r\n",
        "250 ok\r\n",
        "250 ok\r\n",
        "354 go\r\n",
    ];
    for heard in 0..=answers.len() {
        let mut bench = Bench::plain(&[(1, 1), (2, 1)]);
        for answer in &answers[..heard] {
            bench.say(answer);
        }
        bench.dialogue.handle_cut(T0);
        bench.pump();
        if heard < answers.len() {
            let began = heard >= 2;
            assert_eq!(bench.returned(), if began { vec![1] } else { vec![] });
            let ended = Action::Closed {
                cause: None,
                before_ready: !began,
            };
            assert_eq!(bench.log.last(), Some(&ended), "{heard}");
            continue;
        }
        assert_eq!(bench.log, [], "the peer may have taken it");
        bench.say("250 taken\r\n");
        assert!(matches!(bench.outcome(1, 0), Outcome::Delivered(_)));
        assert_eq!(bench.work.len(), 1, "nothing more is asked for");
        assert_eq!(bench.last_write(), "QUIT\r\n");
    }
}
