//! What limits are called, so that the tightest can be named to an operator.

use core::fmt;
use std::sync::Arc;

/// What a limit is set on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Site,
    Provider,
    Source,
    /// A source towards a site.
    Lane,
    Tenant,
    Campaign,
    Queue,
}

impl Scope {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Provider => "provider",
            Self::Source => "source",
            Self::Lane => "lane",
            Self::Tenant => "tenant",
            Self::Campaign => "campaign",
            Self::Queue => "queue",
        }
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Connections,
    MessageRate,
    ConnectionRate,
    SelectionRate,
    MessagesPerConnection,
    RecipientsPerTransaction,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::MessageRate => "message rate",
            Self::ConnectionRate => "connection rate",
            Self::SelectionRate => "source selection rate",
            Self::MessagesPerConnection => "messages per connection",
            Self::RecipientsPerTransaction => "recipients per transaction",
        }
    }
}

/// Names a limit on its node. Displays as `message rate of provider "google"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub scope: Scope,
    pub kind: Kind,
    /// Whose it is; where one thing has several limits of a kind, `whose/which`.
    pub of: Arc<str>,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, scope) = (self.kind.as_str(), self.scope.as_str());
        write!(f, "{kind} of {scope} {:?}", self.of)
    }
}

/// A limit's number; not used again in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitId(pub u64);

/// A bound that needs no count of its own: messages per connection, recipients per transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceiling {
    pub name: Name,
    pub max: u32,
}

impl Ceiling {
    /// The lowest one of that kind; of equals the first.
    pub fn tightest<'a>(
        ceilings: impl IntoIterator<Item = &'a Self>,
        kind: Kind,
    ) -> Option<&'a Self> {
        ceilings
            .into_iter()
            .filter(|ceiling| ceiling.name.kind == kind)
            .min_by_key(|ceiling| ceiling.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_ceiling_is_the_one_that_is_named() {
        let ceiling = |scope, kind, of: &str, max| Ceiling {
            name: Name {
                scope,
                kind,
                of: of.into(),
            },
            max,
        };
        let kind = Kind::RecipientsPerTransaction;
        let all = [
            ceiling(Scope::Site, kind, "(mx1).example", 100),
            ceiling(Scope::Tenant, kind, "acme", 20),
            ceiling(Scope::Source, Kind::MessagesPerConnection, "a", 5),
        ];
        let tightest = Ceiling::tightest(&all, kind).unwrap();
        assert_eq!(
            tightest.name.to_string(),
            "recipients per transaction of tenant \"acme\""
        );
        assert_eq!(Ceiling::tightest(&all, Kind::Connections), None);
    }
}
