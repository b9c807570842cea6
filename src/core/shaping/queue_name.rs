//! A queue as an operator names it: mail of a tenant and a campaign to a domain, any of which may be left
//! out. Written in one word, so that it can stand where one name is wanted.

use core::fmt;
use core::str::FromStr;

use super::block::normal;

/// What stands for a field that is left out.
const ANY: &str = "*";

/// What is `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueName {
    pub tenant: Option<Box<str>>,
    pub campaign: Option<Box<str>>,
    pub domain: Option<Box<str>>,
}

/// It is not `TENANT/CAMPAIGN/DOMAIN`, each of them or `*`, with one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoQueue;

impl QueueName {
    /// In words, for people.
    pub fn told(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.tenant.as_ref().map(|name| format!("tenant {name}")));
        parts.extend(
            self.campaign
                .as_ref()
                .map(|name| format!("campaign {name}")),
        );
        parts.extend(self.domain.as_ref().map(|name| format!("mail to {name}")));
        parts.join(", ")
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [&self.tenant, &self.campaign, &self.domain];
        for (index, field) in fields.into_iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            match field.as_deref() {
                None => f.write_str(ANY)?,
                Some(ANY) => f.write_str("%2A")?,
                Some(name) => f.write_str(&name.replace('%', "%25").replace('/', "%2F"))?,
            }
        }
        Ok(())
    }
}

impl FromStr for QueueName {
    type Err = NoQueue;

    fn from_str(text: &str) -> Result<Self, NoQueue> {
        let mut fields = text.split('/').map(|field| match field {
            ANY => Ok(None),
            "" => Err(NoQueue),
            "%2A" => Ok(Some(ANY.into())),
            name => Ok(Some(name.replace("%2F", "/").replace("%25", "%").into())),
        });
        let mut next = || fields.next().ok_or(NoQueue)?;
        let (tenant, campaign): (_, Option<Box<str>>) = (next()?, next()?);
        let domain: Option<Box<str>> = next()?;
        let is_nobody = tenant.is_none() && campaign.is_none() && domain.is_none();
        if is_nobody || fields.next().is_some() {
            return Err(NoQueue);
        }
        Ok(Self {
            tenant,
            campaign,
            domain: domain.map(|name| normal(&name)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(tenant: Option<&str>, campaign: Option<&str>, domain: Option<&str>) -> QueueName {
        QueueName {
            tenant: tenant.map(Into::into),
            campaign: campaign.map(Into::into),
            domain: domain.map(Into::into),
        }
    }

    #[test]
    fn a_name_is_read_as_it_was_written() {
        for (name, text) in [
            (name(Some("acme"), None, Some("x.test")), "acme/*/x.test"),
            (name(None, Some("a/b"), Some("x.test")), "*/a%2Fb/x.test"),
            (name(Some("*"), Some("%2F"), None), "%2A/%252F/*"),
        ] {
            assert_eq!(name.to_string(), text);
            assert_eq!(text.parse(), Ok(name));
        }
        let read: QueueName = "Acme/*/X.Test.".parse().unwrap();
        assert_eq!(read, name(Some("Acme"), None, Some("x.test")));
        assert_eq!(read.told(), "tenant Acme, mail to x.test");
        for wrong in ["", "acme", "a/b", "*/*/*", "a//b", "a/b/c/d"] {
            assert_eq!(wrong.parse::<QueueName>(), Err(NoQueue), "{wrong}");
        }
    }
}
