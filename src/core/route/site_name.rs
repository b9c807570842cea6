//! MX rollup: one name for a set of hosts, so that all domains behind them share limits.

use crate::words::SiteName;

/// Labels of all names side by side, from the right: equal ones once, others as `(a|b)`, and `?`
/// where some names are shorter. `(alt1|alt2)?.gmail-smtp-in.l.google.com`, as KumoMTA writes it.
/// Where that text would stand for other hosts too, all names in full, so that no two sets of hosts
/// have one name. The order of `names` and repeated names do not matter.
pub fn site_name<'a>(names: impl IntoIterator<Item = &'a str>) -> SiteName {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    let split: Vec<Vec<&str>> = names.iter().map(|n| n.rsplit('.').collect()).collect();
    let depth = split.iter().map(Vec::len).max().unwrap_or(0);
    let columns: Vec<(String, usize)> = (0..depth).map(|i| column(&split, i)).collect();
    let ways = columns
        .iter()
        .fold(1usize, |product, (_, ways)| product.saturating_mul(*ways));
    if ways != names.len() {
        return SiteName::new(&format!("({})", names.join("|")));
    }
    let texts: Vec<&str> = columns
        .iter()
        .rev()
        .map(|(text, _)| text.as_str())
        .collect();
    SiteName::new(&texts.join("."))
}

/// The column's text, and in how many ways it can be read.
fn column(split: &[Vec<&str>], index: usize) -> (String, usize) {
    let mut labels: Vec<&str> = Vec::new();
    let mut missing = false;
    for name in split {
        match name.get(index) {
            Some(label) if labels.contains(label) => {}
            Some(label) => labels.push(label),
            None => missing = true,
        }
    }
    let text = match labels.as_slice() {
        [one] => (*one).to_owned(),
        several => format!("({})", several.join("|")),
    };
    let ways = labels.len() + usize::from(missing);
    (if missing { text + "?" } else { text }, ways)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_named_by_their_common_form() {
        let google = [
            "gmail-smtp-in.l.google.com",
            "alt2.gmail-smtp-in.l.google.com",
            "alt1.gmail-smtp-in.l.google.com",
        ];
        assert_eq!(
            site_name(google).as_str(),
            "(alt1|alt2)?.gmail-smtp-in.l.google.com"
        );
        let yahoo = ["mta7.am0.yahoodns.net", "mta5.am0.yahoodns.net"];
        assert_eq!(site_name(yahoo).as_str(), "(mta5|mta7).am0.yahoodns.net");
        assert_eq!(
            site_name(["mx.example.com", "mx.example.com"]).as_str(),
            "mx.example.com"
        );
    }

    #[test]
    fn no_two_sets_of_hosts_have_one_name() {
        let victim = site_name(["mx1.foo.com", "mx2.bar.net"]);
        let attacker = site_name(["mx2.foo.net", "mx1.foo.com", "mx2.bar.net"]);
        assert_ne!(victim, attacker);
        assert_eq!(victim.as_str(), "(mx1.foo.com|mx2.bar.net)");
        assert_ne!(site_name(["a.b.x", "x"]), site_name(["a.b.x", "b.x", "x"]));
        let all = ["a.x.test", "a.y.test", "b.x.test", "b.y.test"];
        assert_eq!(site_name(all).as_str(), "(a|b).(x|y).test");
    }

    #[test]
    fn the_order_of_hosts_does_not_change_the_site() {
        let (a, b, c) = ("a.x.example", "b.y.example", "c.example");
        assert_eq!(site_name([a, b, c]), site_name([c, b, a]));
    }
}
