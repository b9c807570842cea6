//! MX rollup: one name for a set of hosts, so that all domains behind them share limits. Two sets
//! of hosts never have the same name.

use crate::words::SiteName;

/// Where the names differ in one label only, the common form with that label as `(a|b)`, and `?`
/// where a name is shorter by it: `(alt1|alt2)?.gmail-smtp-in.l.google.com`, as KumoMTA writes it.
/// All other sets are written out, `(mx.a.example|mx.b.example)`: a common form of theirs would
/// stand for further names, and whoever publishes those would get the mail.
/// The order of `names` and repeated names do not matter.
pub fn site_name<'a>(names: impl IntoIterator<Item = &'a str>) -> SiteName {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    if let [one] = names.as_slice() {
        return SiteName::new(one);
    }
    SiteName::new(&common_form(&names).unwrap_or_else(|| format!("({})", names.join("|"))))
}

/// Labels of all names with one place in the same column.
struct Column<'a> {
    labels: Vec<&'a str>,
    /// Some names are shorter.
    is_optional: bool,
}

/// `None` unless the form stands for `names` and nothing else. `names` are sorted.
fn common_form(names: &[&str]) -> Option<String> {
    let split: Vec<Vec<&str>> = names.iter().map(|n| n.rsplit('.').collect()).collect();
    let depth = split.iter().map(Vec::len).max()?;
    let columns: Vec<Column<'_>> = (0..depth).rev().map(|i| column(&split, i)).collect();
    let varying = columns.iter().filter(|column| column.varies()).count();
    if varying != 1 || expand(&columns) != names {
        return None;
    }
    let texts: Vec<String> = columns.iter().map(Column::text).collect();
    Some(texts.join("."))
}

fn column<'a>(split: &[Vec<&'a str>], index: usize) -> Column<'a> {
    let mut column = Column {
        labels: Vec::new(),
        is_optional: false,
    };
    for name in split {
        match name.get(index) {
            Some(label) if column.labels.contains(label) => {}
            Some(label) => column.labels.push(label),
            None => column.is_optional = true,
        }
    }
    column
}

impl Column<'_> {
    const fn varies(&self) -> bool {
        self.labels.len() > 1 || self.is_optional
    }

    fn text(&self) -> String {
        let text = match self.labels.as_slice() {
            [one] => (*one).to_owned(),
            several => format!("({})", several.join("|")),
        };
        if self.is_optional { text + "?" } else { text }
    }
}

/// All names that the form stands for, sorted. Only for a form with one column that varies.
fn expand(columns: &[Column<'_>]) -> Vec<String> {
    let mut names = vec![String::new()];
    for column in columns {
        let mut longer = Vec::new();
        for name in &names {
            let dot = if name.is_empty() { "" } else { "." };
            longer.extend(
                column
                    .labels
                    .iter()
                    .map(|label| format!("{name}{dot}{label}")),
            );
            if column.is_optional {
                longer.push(name.clone());
            }
        }
        names = longer;
    }
    names.sort_unstable();
    names
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
    fn the_order_of_hosts_does_not_change_the_site() {
        let (a, b, c) = ("a.x.example", "b.y.example", "c.example");
        assert_eq!(site_name([a, b, c]), site_name([c, b, a]));
    }

    #[test]
    fn nobody_else_has_the_name_of_a_set_of_hosts() {
        let victim = site_name(["mx1.foo.com", "mx2.bar.net"]);
        assert_eq!(victim.as_str(), "(mx1.foo.com|mx2.bar.net)");
        let attacker = site_name(["mx2.foo.net", "mx1.foo.com", "mx2.bar.net"]);
        assert_ne!(victim, attacker);
        assert_ne!(site_name(["a.b.x", "x"]), site_name(["a.b.x", "b.x", "x"]));
    }

    #[test]
    fn all_small_sets_have_names_of_their_own() {
        let names = [
            "x", "y", "a.x", "b.x", "a.y", "b.y", "a.a.x", "b.a.x", "a.b.x", "a.b.y",
        ];
        let mut seen = std::collections::BTreeSet::new();
        for set in 1_u32..1 << names.len() {
            let of = names.iter().enumerate();
            let set: Vec<&str> = of
                .filter(|(n, _)| set >> n & 1 == 1)
                .map(|(_, name)| *name)
                .collect();
            let name = site_name(set.iter().copied());
            assert!(seen.insert(name.clone()), "{name} again, for {set:?}");
        }
    }
}
