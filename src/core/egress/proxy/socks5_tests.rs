//! What a SOCKS5 handshake promises, whatever the proxy says and in whatever pieces.

use super::*;

const CONNECTED: &[u8] = &[5, 0, 0, 1, 192, 0, 2, 9, 0x12, 0x34];

fn target() -> Target {
    Target::Address("198.51.100.7:25".parse().unwrap())
}

fn login() -> Option<Login> {
    Login::new("post", "secret")
}

/// All that is asked for when the proxy says `answers`, in pieces of `piece` octets; then what was
/// left over.
fn converse(handshake: &mut Handshake, answers: &[u8], piece: usize) -> (Vec<Action>, usize) {
    let mut actions: Vec<Action> = core::iter::from_fn(|| handshake.poll_action()).collect();
    let mut taken = 0;
    for octets in answers.chunks(piece) {
        taken += handshake.handle_bytes(octets);
        actions.extend(core::iter::from_fn(|| handshake.poll_action()));
    }
    (actions, answers.len() - taken)
}

#[test]
fn a_connection_without_password() {
    let answers = [&[5, 0][..], CONNECTED, b"220 hello"].concat();
    for piece in 1..=answers.len() {
        let mut handshake = Handshake::new(target(), None);
        let (actions, left) = converse(&mut handshake, &answers, piece);
        let request = vec![5, 1, 0, 1, 198, 51, 100, 7, 0, 25];
        let bound = "192.0.2.9:4660".parse().ok();
        assert_eq!(
            actions,
            [
                Action::Send(vec![5, 1, 0]),
                Action::Send(request),
                Action::Established(bound)
            ]
        );
        assert_eq!(left, 9, "the greeting is the target's");
        assert_eq!(handshake.wanted(), 0);
    }
}

#[test]
fn a_password_is_said_only_when_it_is_asked_for() {
    let answers = [&[5, 2, 1, 0][..], CONNECTED].concat();
    for piece in 1..=answers.len() {
        let mut handshake = Handshake::new(target(), login());
        let (actions, left) = converse(&mut handshake, &answers, piece);
        assert_eq!(actions[0], Action::Send(vec![5, 2, 0, 2]));
        assert_eq!(actions[1], Action::Send(b"\x01\x04post\x06secret".to_vec()));
        assert!(matches!(actions[3], Action::Established(Some(_))));
        assert_eq!((actions.len(), left), (4, 0));
    }
    let mut handshake = Handshake::new(target(), login());
    let (actions, _) = converse(&mut handshake, &[5, 0], 2);
    let request = vec![5, 1, 0, 1, 198, 51, 100, 7, 0, 25];
    assert_eq!(actions[1], Action::Send(request), "the password stays here");
}

#[test]
fn names_and_ipv6_go_and_come() {
    let name = Target::Name("mx.example".into(), 587);
    let mut handshake = Handshake::new(name, None);
    let answers = [&[5, 0, 5, 0, 0, 3, 2][..], b"hi", &[0, 25]].concat();
    let (actions, left) = converse(&mut handshake, &answers, 1);
    let request = [&[5, 1, 0, 3, 10][..], b"mx.example", &[2, 75]].concat();
    assert_eq!(actions[1], Action::Send(request));
    assert_eq!(actions[2], Action::Established(None));
    assert_eq!(left, 0);

    let v6 = Target::Address("[2001:db8::1]:25".parse().unwrap());
    let mut handshake = Handshake::new(v6, None);
    let mut answers = vec![5, 0, 5, 0, 0, 4];
    answers.extend_from_slice(&"2001:db8::9".parse::<Ipv6Addr>().unwrap().octets());
    answers.extend_from_slice(&[0, 80]);
    let (actions, left) = converse(&mut handshake, &answers, 3);
    assert_eq!(
        actions[2],
        Action::Established("[2001:db8::9]:80".parse().ok())
    );
    assert_eq!(left, 0);

    let long = Target::Name("x".repeat(256).into(), 25);
    let (actions, _) = converse(&mut Handshake::new(long, None), &[5, 0], 2);
    assert_eq!(actions[1], Action::Failed(Refusal::TargetName));
}

#[test]
fn each_refusal_says_whose_trouble_it_is() {
    use Whose::{Ours, Proxy, Target, Way};
    let cases: &[(&[u8], Refusal, Whose)] = &[
        (b"HT", Refusal::NotSocks5, Proxy),
        (&[4, 0], Refusal::NotSocks5, Proxy),
        (&[5, 1], Refusal::NotSocks5, Proxy),
        (&[5, 0xFF], Refusal::NoMethod, Ours),
        (&[5, 2, 1, 1], Refusal::Password, Ours),
        (&[5, 2, 5, 0], Refusal::NotSocks5, Proxy),
        (&[5, 0, 5, 1], Refusal::General, Way),
        (&[5, 0, 5, 2], Refusal::Ruleset, Way),
        (&[5, 0, 5, 3], Refusal::NetworkUnreachable, Target),
        (&[5, 0, 5, 4], Refusal::HostUnreachable, Target),
        (&[5, 0, 5, 5], Refusal::ConnectionRefused, Target),
        (&[5, 0, 5, 6], Refusal::TtlExpired, Target),
        (&[5, 0, 5, 7], Refusal::Command, Ours),
        (&[5, 0, 5, 8], Refusal::AddressType, Way),
        (&[5, 0, 5, 9], Refusal::Unknown(9), Way),
        (&[5, 0, 1, 0], Refusal::NotSocks5, Proxy),
        (&[5, 0, 5, 0, 0, 2], Refusal::NotSocks5, Proxy),
    ];
    for (answers, refusal, whose) in cases {
        for piece in 1..=answers.len() {
            let mut handshake = Handshake::new(target(), login());
            let (actions, _) = converse(&mut handshake, answers, piece);
            assert_eq!(
                actions.last(),
                Some(&Action::Failed(*refusal)),
                "{answers:?} in pieces of {piece}"
            );
            assert_eq!(refusal.whose(), *whose);
            handshake.handle_closed();
            assert_eq!(handshake.poll_action(), None, "one end is enough");
        }
    }
}

#[test]
fn a_password_asked_of_one_who_has_none_is_no_socks5() {
    let mut handshake = Handshake::new(target(), None);
    let (actions, _) = converse(&mut handshake, &[5, 2], 2);
    assert_eq!(actions[1], Action::Failed(Refusal::NotSocks5));
}

#[test]
fn silence_is_the_proxys_until_it_waits_for_the_target() {
    for (answers, closed, silent) in [
        (&[][..], Refusal::ClosedEarly, Refusal::SilentEarly),
        (&[5], Refusal::ClosedEarly, Refusal::SilentEarly),
        (&[5, 2], Refusal::ClosedEarly, Refusal::SilentEarly),
        (&[5, 0], Refusal::ClosedLate, Refusal::SilentLate),
        (&[5, 0, 5, 0], Refusal::ClosedLate, Refusal::SilentLate),
    ] {
        let begun = || {
            let mut handshake = Handshake::new(target(), login());
            converse(&mut handshake, answers, 1);
            handshake
        };
        let mut handshake = begun();
        assert_eq!(handshake.is_connecting(), closed == Refusal::ClosedLate);
        handshake.handle_closed();
        assert_eq!(handshake.poll_action(), Some(Action::Failed(closed)));
        let mut handshake = begun();
        handshake.handle_timeout();
        assert_eq!(handshake.poll_action(), Some(Action::Failed(silent)));
    }
}

#[test]
fn a_probe_asks_for_no_connection() {
    let mut handshake = Handshake::probe(login());
    let (actions, left) = converse(&mut handshake, &[5, 2, 1, 0, 9], 1);
    assert_eq!(actions.len(), 3);
    assert_eq!(actions[2], Action::Established(None));
    assert_eq!(left, 1);
}

#[test]
fn garbage_ends_it_within_its_bound() {
    // xorshift64*, seeded: a failure names the round.
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        (random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u8
    };
    for round in 0..20_000 {
        let mut garbage: Vec<u8> = (0..ANSWER_OCTETS_MAX + 8).map(|_| next()).collect();
        // Some of it leads far.
        let lead: &[u8] = match round % 5 {
            0 => &[],
            1 => &[5, 0],
            2 => &[5, 2, 1, 0],
            3 => &[5, 0, 5, 0],
            _ => &[5, 0, 5, 0, 0, 3],
        };
        garbage[..lead.len()].copy_from_slice(lead);
        let piece = usize::from(next()) % 40 + 1;
        let mut handshake = Handshake::new(target(), login());
        let (actions, left) = converse(&mut handshake, &garbage, piece);
        let taken = garbage.len() - left;
        assert!(taken <= 4 + ANSWER_OCTETS_MAX, "round {round}: {taken}");
        let ends = actions
            .iter()
            .filter(|action| !matches!(action, Action::Send(_)));
        let is_over = handshake.wanted() == 0;
        assert_eq!(ends.count(), usize::from(is_over), "round {round}");
        assert!(actions.len() <= 4, "round {round}");
    }
}

#[test]
fn logins_fit_their_octets_and_are_not_shown() {
    assert!(Login::new("", "x").is_none() && Login::new("x", "").is_none());
    assert!(Login::new(&"x".repeat(256), "x").is_none());
    let login = Login::new(&"x".repeat(255), &"y".repeat(255)).unwrap();
    assert!(!format!("{login:?}").contains('y'));
}
