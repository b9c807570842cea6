//! What was promised and what peers hold: the truth that the books are compared with.

use std::collections::BTreeMap;
use std::sync::Arc;

use posthaste_core::words::{Message, MessageId};

/// One recipient of one accepted message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    /// How often a peer took the message.
    received: u32,
    /// How often it did so and we could not know, or forgot it in a crash.
    forgiven: u32,
    /// The kind of the record that ended it.
    end: Option<String>,
}

#[derive(Debug)]
struct Letter {
    message: Arc<Message>,
    fates: Vec<Fate>,
}

/// A message that a peer took, for these recipients.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) id: MessageId,
    pub(crate) recipients: Vec<u16>,
}

#[derive(Debug, Default)]
pub struct Ledger {
    letters: BTreeMap<MessageId, Letter>,
}

impl Ledger {
    pub(crate) fn accept(&mut self, message: &Arc<Message>) {
        let fates = vec![Fate::default(); message.envelope.recipients.len()];
        let message = Arc::clone(message);
        let before = self.letters.insert(message.id, Letter { message, fates });
        assert!(before.is_none(), "an id was given twice");
    }

    fn fate(&mut self, id: MessageId, recipient: u16) -> &mut Fate {
        let letter = self.letters.get_mut(&id);
        let letter = letter.unwrap_or_else(|| panic!("{id} was never accepted"));
        &mut letter.fates[usize::from(recipient)]
    }

    /// A peer took these octets for these addresses.
    pub(crate) fn take(&mut self, addresses: &[String], data: &[u8]) -> Taken {
        let id = id_in(data).expect("each message names itself in its header");
        let letter = self.letters.get(&id);
        let message = &letter.expect("only what was accepted is sent").message;
        assert!(message.data == data, "{id} arrived changed");
        let recipients: Vec<u16> = addresses
            .iter()
            .map(|address| {
                let all = &message.envelope.recipients;
                let index = all.iter().position(|r| r.address.as_str() == address);
                let index = index.unwrap_or_else(|| panic!("{id} is not for {address}"));
                u16::try_from(index).expect("few recipients")
            })
            .collect();
        for recipient in &recipients {
            self.fate(id, *recipient).received += 1;
        }
        Taken { id, recipients }
    }

    /// The peer's 250 did not reach us, or its consequence was lost in a crash.
    pub(crate) fn forgive(&mut self, id: MessageId, recipient: u16) {
        self.fate(id, recipient).forgiven += 1;
    }

    pub(crate) fn forgive_all(&mut self, taken: &Taken) {
        for recipient in &taken.recipients {
            self.forgive(taken.id, *recipient);
        }
    }

    pub(crate) fn end(&mut self, id: MessageId, recipient: u16, kind: &str) {
        let fate = self.fate(id, recipient);
        assert!(
            fate.end.is_none(),
            "{id}/{recipient} ends as {kind} after {:?}",
            fate.end
        );
        fate.end = Some(kind.to_owned());
    }

    /// Every recipient ended once, and a peer holds it once if it was delivered and else not, but
    /// for what could not be known.
    pub(crate) fn check(&self) {
        for (id, letter) in &self.letters {
            for (index, fate) in letter.fates.iter().enumerate() {
                let end = fate.end.as_deref();
                let end = end.unwrap_or_else(|| panic!("{id}/{index} has no end"));
                let expected = fate.forgiven + u32::from(end == "Delivery");
                assert_eq!(fate.received, expected, "{id}/{index} {fate:?}");
            }
        }
    }

    pub(crate) fn ends(&self, kind: &str) -> usize {
        let fates = self.letters.values().flat_map(|letter| &letter.fates);
        fates
            .filter(|fate| fate.end.as_deref() == Some(kind))
            .count()
    }

    pub(crate) fn doubled(&self) -> usize {
        let fates = self.letters.values().flat_map(|letter| &letter.fates);
        fates.filter(|fate| fate.received > 1).count()
    }
}

fn id_in(data: &[u8]) -> Option<MessageId> {
    const FIELD: &[u8] = b"Message-ID: <";
    let at = data.windows(FIELD.len()).position(|w| w == FIELD)? + FIELD.len();
    let text = core::str::from_utf8(data.get(at..at + 26)?).ok()?;
    text.parse().ok()
}
