//! TOML into the tree.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::fault::Wrong;
use super::node::{Entry, Node, Tree};

pub(super) fn read<'t>(text: &'t str, fault: &mut dyn FnMut(usize, Wrong)) -> Vec<Entry<'t>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let offset = error.span().map_or(0, |span| span.start);
        let message = error.message().replace('\n', ", ");
        fault(offset, Wrong::Syntax(format!("TOML: {message}")));
    }
    entries(table.into_inner())
}

/// One value, as a command line or an override gives it: TOML if it is, else plain text.
pub(in super::super) fn literal(text: &str) -> Node<'_> {
    match DeValue::parse(text) {
        Ok(value) => node(value),
        Err(_) => Node {
            offset: 0,
            tree: Tree::Text(text.into()),
        },
    }
}

/// In the order of the file: the parser sorts by name.
fn entries(table: DeTable<'_>) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = table
        .into_iter()
        .map(|(key, value)| Entry {
            offset: key.span().start,
            key: key.into_inner(),
            node: node(value),
        })
        .collect();
    entries.sort_by_key(|entry| entry.offset);
    entries
}

fn node(value: Spanned<DeValue<'_>>) -> Node<'_> {
    let offset = value.span().start;
    let tree = match value.into_inner() {
        DeValue::Boolean(value) => Tree::Flag(value),
        DeValue::Integer(value) => i64::from_str_radix(value.as_str(), value.radix())
            .map_or(Tree::Foreign("a number beyond 64 bits"), Tree::Number),
        DeValue::Float(value) => value
            .as_str()
            .parse()
            .map_or(Tree::Foreign("a malformed number"), Tree::Decimal),
        DeValue::String(text) => Tree::Text(text),
        DeValue::Datetime(date) => Tree::Text(date.to_string().into()),
        DeValue::Array(array) => Tree::List(array.into_iter().map(node).collect()),
        DeValue::Table(table) => Tree::Table(entries(table)),
    };
    Node { offset, tree }
}
