//! What files say and nothing obeys yet, in one line.

use std::collections::BTreeMap;

use posthaste_core::shaping::{Note, Shaping};

/// Keys without effect and in how many places each stands, in files of the operator's and in those that
/// come with the program. `None` where there are none.
pub fn without_effect(shaping: &Shaping) -> Option<String> {
    let own = counted(shaping.notes()).map(|keys| format!("in your files {keys}"));
    let shipped = counted(shaping.shipped_notes());
    let shipped = shipped.map(|keys| format!("in those that come with the program {keys}"));
    let parts: Vec<String> = own.into_iter().chain(shipped).collect();
    (!parts.is_empty()).then(|| format!("without effect: {}", parts.join("; ")))
}

/// `enable_tls (22), pacing (3)`.
fn counted(notes: &[Note]) -> Option<String> {
    let mut keys: BTreeMap<&str, usize> = BTreeMap::new();
    for note in notes.iter().filter(|note| !note.is_barring) {
        let key = note.key.rsplit('.').next().unwrap_or(&note.key);
        *keys.entry(key).or_default() += 1;
    }
    let keys: Vec<String> = keys
        .iter()
        .map(|(key, count)| format!("{key} ({count})"))
        .collect();
    (!keys.is_empty()).then(|| keys.join(", "))
}
