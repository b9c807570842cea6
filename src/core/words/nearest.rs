//! What somebody most likely meant who wrote a word that nobody knows.

/// The known word that is fewest edits away, when that is few for its length.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known
        .map(|known| (distance(word, known), known))
        .min()
        .filter(|(edits, known)| *edits <= 1 + known.len() / 5)
        .map(|(_, known)| known)
}

/// Characters added, left out, replaced, or exchanged with the one beside them.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = row[j] + usize::from(x != y);
            let mut least = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = core::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_seen_and_another_word_is_none() {
        let known = ["max_ready", "max_message_rate", "enable_tls", "smtp"];
        for (word, meant) in [
            ("max_redy", Some("max_ready")),
            ("max_mesage_rates", Some("max_message_rate")),
            ("enabletls", Some("enable_tls")),
            ("smpt", Some("smtp")),
            ("spam", None),
            ("", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), meant, "{word}");
        }
    }
}
