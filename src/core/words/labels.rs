//! Whose a message is: its tenant, campaign and pool.

use core::fmt;
use std::borrow::Cow;
use std::sync::Arc;

/// Set when the message is accepted, and kept with it. What is `None` is the default, whatever it is
/// called at the moment. Shared; a message of defaults alone costs nothing.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels(Option<Arc<Names>>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Names {
    tenant: Option<Box<str>>,
    campaign: Option<Box<str>>,
    pool: Option<Box<str>>,
}

impl Labels {
    pub fn new(tenant: Option<&str>, campaign: Option<&str>, pool: Option<&str>) -> Self {
        if tenant.or(campaign).or(pool).is_none() {
            return Self::default();
        }
        Self(Some(Arc::new(Names {
            tenant: tenant.map(Into::into),
            campaign: campaign.map(Into::into),
            pool: pool.map(Into::into),
        })))
    }

    pub fn tenant(&self) -> Option<&str> {
        self.0.as_ref()?.tenant.as_deref()
    }

    pub fn campaign(&self) -> Option<&str> {
        self.0.as_ref()?.campaign.as_deref()
    }

    pub fn pool(&self) -> Option<&str> {
        self.0.as_ref()?.pool.as_deref()
    }

    /// No label is set.
    pub const fn is_default(&self) -> bool {
        self.0.is_none()
    }

    /// The name of the queue of `domain`, as records and KumoMTA write it: `campaign:tenant@domain`,
    /// less what is not set.
    pub fn queue<'a>(&self, domain: &'a str) -> Cow<'a, str> {
        match (self.campaign(), self.tenant()) {
            (None, None) => domain.into(),
            (None, Some(tenant)) => format!("{tenant}@{domain}").into(),
            (Some(campaign), tenant) => {
                format!("{campaign}:{}@{domain}", tenant.unwrap_or_default()).into()
            }
        }
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Labels"),
            Some(names) => names.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_defaults_costs_a_pointer() {
        assert_eq!(size_of::<Labels>(), size_of::<usize>());
        let none = Labels::new(None, None, None);
        assert!(none.is_default() && none == Labels::default());
        assert!(matches!(none.queue("a.test"), Cow::Borrowed("a.test")));
    }

    #[test]
    fn queues_are_named_as_kumomta_names_them() {
        let named = |tenant, campaign| Labels::new(tenant, campaign, Some("p")).queue("a.test");
        assert_eq!(named(Some("t"), Some("c")), "c:t@a.test");
        assert_eq!(named(Some("t"), None), "t@a.test");
        assert_eq!(named(None, Some("c")), "c:@a.test");
        assert_eq!(named(None, None), "a.test");
    }
}
