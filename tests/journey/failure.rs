//! A disk that fails under the node: nobody is told that a message is safe, all who ask hear why, and
//! what is known goes out.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::client::{Client, letter};
use super::node::Setup;
use super::peer::Peer;
use super::wait::{never, until};
use crate::disk::{Image, skip};

const KNOWN: usize = 3;

#[test]
fn a_failed_sync_is_told_to_all_and_what_is_known_goes_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(image) = Image::new(folder.path(), 512 << 20) else {
        return skip("mkfs.ext4 does not run here");
    };
    let Some(mounted) = image.mount() else {
        return skip("an ext4 image cannot be mounted here");
    };
    let (peer, is_willing) = Peer::unwilling();
    let mut node = Setup::to(peer.address())
        .arg("--spool", &image.path().join("spool").display().to_string())
        .file("[spool]\nfree_min = \"1MiB\"")
        .start();
    let mut client = Client::greeted(node.smtp());
    for number in 0..KNOWN {
        let subject = format!("known {number}");
        client.mail("", &["b@r.example"], &letter(&subject));
    }
    node.wait_for("TransientFailure", KNOWN);
    let mut midway = Client::greeted(node.smtp());
    midway.begin("", &["b@r.example"]);
    if let Err(why) = image.cut() {
        return skip(&format!("the file system cannot be shut down here: {why}"));
    }

    // With the content there, and before it.
    midway.send(b"Subject: unknown\r\n\r\nx\r\n.\r\n");
    midway.hear("451 4.3.0 Local storage failed");
    client.expect("MAIL FROM:<>", "250");
    client.expect("RCPT TO:<b@r.example>", "250");
    client.expect("DATA", "451 4.3.0 Local storage failed");
    until("the operator is told", || {
        let sentence = "the spool's disk failed, no message is taken until a restart: ";
        node.told().contains(sentence).then_some(())
    });
    let (status, why) = node.get("/ready");
    assert_eq!(status, 503);
    assert!(why.contains("the spool's disk failed: "), "{why}");
    assert_eq!(node.get("/health").0, 200, "a restart is the operator's");
    assert_eq!(node.metric("posthaste_spool_healthy"), 0.0);
    let refused = node.metric("posthaste_messages_refused_total{reason=\"spool\"}");
    assert_eq!(refused, 2.0);

    is_willing.store(true, Ordering::Release);
    peer.wait(KNOWN);
    node.wait_empty();
    never("one goes twice", Duration::from_secs(3), || {
        (peer.letters().len() > KNOWN).then_some(())
    });
    assert_eq!(node.stop().code(), Some(0), "{}", node.told());
    drop(mounted);

    // Its books ended with the disk: what was sent since is sent again, and nothing is lost.
    let mounted = image.mount().expect("the image mounts again");
    node.start_again();
    peer.wait(2 * KNOWN);
    node.wait_empty();
    assert_eq!(node.get("/ready").0, 200);
    node.kill();
    drop(mounted);
}
