//! What somebody most likely meant who wrote a word that nobody knows.

/// The known word that is fewest edits away, when that is few for its length.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known
        .map(|known| (distance(word, known), known))
        .min()
        .filter(|(edits, known)| *edits <= 1 + known.len() / 5)
        .map(|(_, known)| known)
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_seen_and_another_word_is_none() {
        let known = ["max_ready", "max_message_rate", "enable_tls"];
        for (word, meant) in [
            ("max_redy", Some("max_ready")),
            ("max_mesage_rates", Some("max_message_rate")),
            ("enabletls", Some("enable_tls")),
            ("", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), meant, "{word}");
        }
    }
}
