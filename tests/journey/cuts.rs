//! The whole node under load, killed or cut from its power at random moments. What got its 250
//! arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{Client, queued_as};
use super::node::{Node, Setup, closed};
use super::peer::Peer;
use super::wait::{PATIENCE, within};
use crate::disk::{Image, skip};

const CLIENTS: u64 = 8;
const KILLS: u64 = 20;
const CUTS: u64 = 20;
/// Of the rounds of either, those without a peer to deliver to, so that it is the queue that must
/// survive. In the others deliveries, their settles and their records are under way.
const KILLS_ALONE: u64 = KILLS / 2;
const CUTS_ALONE: u64 = CUTS / 4;
const UNSYNCED_MAX: u64 = 8;
const CONNECTIONS_MAX: u64 = 8;
/// Messages that may be between a peer's 250 and the sync of our settle when the process dies: no
/// delivery begins beyond `delivery.unsynced_max`, and each connection may have had two begun: one whose
/// dot waits for its reply, and the next, whose envelope rides behind that dot.
const IN_DOUBT: u64 = UNSYNCED_MAX + 2 * CONNECTIONS_MAX;

/// A message, what the node named it, and when its 250 came.
struct Told {
    subject: String,
    id: String,
    at: Instant,
}

/// From before the power went until the process was dead: in the world there is nothing between the
/// two, so nothing that is said in here proves anything.
struct Outage {
    begin: Instant,
    end: Instant,
}

impl Outage {
    fn covers(&self, moment: Instant) -> bool {
        (self.begin..=self.end).contains(&moment)
    }
}

/// Between 100 and 600 ms.
fn random_span(seed: u64, round: u64) -> Duration {
    let mixed = (seed ^ round.wrapping_mul(0x9E37_79B9_7F4A_7C15)).rotate_left(29);
    Duration::from_millis(100 + mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) % 500)
}

/// 1 to 20 KB, by the subject.
fn content(subject: &str) -> Vec<u8> {
    let lines = 15 + subject.bytes().map(usize::from).sum::<usize>() % 300;
    let line = format!("This is a line of {subject}, and there are more like it.\r\n");
    format!("Subject: {subject}\r\n\r\n{}", line.repeat(lines)).into_bytes()
}

fn load(node: SocketAddr, round: u64) -> Vec<JoinHandle<Vec<Told>>> {
    let client = |number| thread::spawn(move || send_until_cut(node, round, number));
    (0..CLIENTS).map(client).collect()
}

fn send_until_cut(node: SocketAddr, round: u64, number: u64) -> Vec<Told> {
    let mut told = Vec::new();
    let mut client = Client::greeted(node);
    loop {
        let subject = format!("cut {round} {number} {}", told.len());
        let mut wire = b"MAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\r\nDATA\r\n".to_vec();
        wire.extend(content(&subject));
        wire.extend(b".\r\n");
        if client.try_send(&wire).is_err() {
            return told;
        }
        let replies: Vec<_> = (0..4).map_while(|_| client.try_reply().ok()).collect();
        match replies.as_slice() {
            [_, _, _, last] if last.starts_with("250 ") => {
                let (id, at) = (queued_as(last), Instant::now());
                told.push(Told { subject, id, at });
            }
            _ => return told,
        }
    }
}

fn join(clients: Vec<JoinHandle<Vec<Told>>>) -> Vec<Told> {
    let told = clients.into_iter();
    told.flat_map(|client| client.join().expect("a client ends"))
        .collect()
}

/// All that was promised has arrived, octet for octet, and is in the books; how many came twice.
fn check(node: &Node, peer: &Peer, told: &[Told], outages: &[Outage]) -> usize {
    node.wait_empty();
    // Of each, how often a node gave it that had its power.
    let mut arrived: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for letter in peer.letters() {
        let proves = !outages.iter().any(|outage| outage.covers(letter.at));
        *arrived.entry(letter.parts().1.to_vec()).or_default() += usize::from(proves);
    }
    for Told { subject, .. } in told {
        assert!(
            arrived.contains_key(&content(subject)),
            "{subject} got its 250 and is lost"
        );
    }
    for kind in ["Reception", "Delivery"] {
        let mut missing = Vec::new();
        let is_in_the_books = within(PATIENCE, || {
            let records = node.records();
            let of_kind = records.iter().filter(|record| record["type"] == kind);
            let ids: BTreeSet<_> = of_kind.filter_map(|record| record["id"].as_str()).collect();
            let untold = told.iter().filter(|told| !ids.contains(told.id.as_str()));
            missing = untold.map(|told| told.id.clone()).collect();
            missing.is_empty().then_some(())
        });
        assert!(is_in_the_books.is_some(), "no {kind} of {missing:?}");
    }
    arrived
        .values()
        .map(|copies| copies.saturating_sub(1))
        .sum()
}

/// What came twice stays within the bound for so many ends in the midst of deliveries.
fn weigh(told: &[Told], least: usize, twice: usize, ends: u64) {
    let bound = usize::try_from(ends * IN_DOUBT).expect("a few");
    eprintln!("{} promised, 0 lost, {twice} twice", told.len());
    assert!(told.len() > least, "{} are no load", told.len());
    assert!(twice <= bound, "{twice} came twice, {bound} may");
}

fn setup(peer: SocketAddr) -> Setup {
    Setup::to(peer).arg("--shards", "2").file(&format!(
        "[delivery]\nunsynced_max = {UNSYNCED_MAX}\nconnections_max = {CONNECTIONS_MAX}"
    ))
}

#[test]
fn twenty_kills_lose_no_message_that_got_its_250() {
    let seed = RandomState::new().build_hasher().finish();
    eprintln!("seed {seed}");
    let address = closed();
    let mut peer = None;
    let mut node = setup(address).start();
    let mut told = Vec::new();
    for round in 0..KILLS {
        if round == KILLS_ALONE {
            peer = Some(Peer::good_at(address));
        }
        let clients = load(node.smtp(), round);
        thread::sleep(random_span(seed, round));
        node.kill();
        told.extend(join(clients));
        node.start_again();
    }
    let peer = peer.expect("it came in the middle");
    let twice = check(&node, &peer, &told, &[]);
    weigh(&told, 500, twice, KILLS - KILLS_ALONE);
}

#[test]
fn twenty_power_cuts_lose_no_message_that_got_its_250() {
    let seed = RandomState::new().build_hasher().finish();
    eprintln!("seed {seed}");
    let folder = tempfile::tempdir().expect("a folder");
    let Some(image) = Image::new(folder.path(), 1 << 30) else {
        return skip("mkfs.ext4 does not run here");
    };
    let Some(mut mounted) = image.mount() else {
        return skip("an ext4 image cannot be mounted here");
    };
    let address = closed();
    let mut peer = None;
    // The log is on the disk that loses its power too: its lines and the spool's cursor agree again.
    let on_image = |name| image.path().join(name).display().to_string();
    let mut node = setup(address)
        .arg("--spool", &on_image("spool"))
        .arg("--log", &on_image("log"))
        .file("[spool]\nfree_min = \"1MiB\"")
        .start();
    let mut told = Vec::new();
    let mut outages = Vec::new();
    for round in 0..CUTS {
        if round == CUTS_ALONE {
            peer = Some(Peer::good_at(address));
        }
        let clients = load(node.smtp(), round);
        thread::sleep(random_span(seed, round));
        // A sync under way when ext4 is shut down may report success and be lost all the same, as
        // a bare write and fdatasync show: what is answered from here on proves nothing.
        let begin = Instant::now();
        if let Err(why) = image.cut() {
            return skip(&format!("the file system cannot be shut down here: {why}"));
        }
        node.kill();
        let end = Instant::now();
        told.extend(join(clients).into_iter().filter(|told| told.at < begin));
        outages.push(Outage { begin, end });
        drop(mounted);
        mounted = image.mount().expect("the image mounts again");
        node.start_again();
    }
    let peer = peer.expect("it came after the first rounds");
    let given = peer.letters().len();
    let twice = check(&node, &peer, &told, &outages);
    weigh(&told, 500, twice, CUTS - CUTS_ALONE);
    assert!(given > 500, "{given} were given while the power went");
    node.kill();
    drop(mounted);
}
