//! Where domains with blocks of their own are: told by the file itself, or by DNS.

use posthaste_core::route::site_name;
use posthaste_core::shaping::{Found, Shaping, Sites};
use posthaste_core::words::Domain;

/// What is known of sites. One per node.
#[derive(Debug, Default)]
pub struct Atlas {
    sites: Sites,
    is_doubtful: bool,
}

/// What became of a round of questions.
#[derive(Debug, PartialEq, Eq)]
pub struct Learned {
    /// Some domain is elsewhere than it was.
    pub is_news: bool,
    /// For the operator: once when DNS leaves a question unanswered, once when it answers all again.
    pub remark: Option<String>,
}

impl Atlas {
    /// What DNS told. Of a domain it has no answer for, what was known holds on.
    pub fn learn(&mut self, told: Sites) -> Learned {
        let mut doubt = None;
        let mut is_news = false;
        for (domain, found) in told {
            let known = self.sites.get(&domain);
            if let Found::Unanswered(why) = &found {
                let holds = match known {
                    Some(Found::Site(site)) => format!("at {site}, where it was"),
                    Some(_) | None => "for the domain alone".into(),
                };
                doubt.get_or_insert_with(|| {
                    format!("the site of {domain} is not known ({why}): its rules hold {holds}")
                });
                if known.is_some() {
                    continue;
                }
            }
            is_news |= known != Some(&found);
            self.sites.insert(domain, found);
        }
        let was_doubtful = core::mem::replace(&mut self.is_doubtful, doubt.is_some());
        let remark = if was_doubtful && doubt.is_none() {
            Some("the sites of all rules are known".into())
        } else {
            doubt.filter(|_| !was_doubtful)
        };
        Learned { is_news, remark }
    }

    /// Whether DNS left a question unanswered.
    pub const fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// Makes the rules hold where their domains are.
    pub fn place(&self, shaping: &mut Shaping) {
        let (_, declared) = to_ask(shaping);
        let mut sites = self.sites.clone();
        sites.extend(declared);
        shaping.place_sites(&sites);
    }
}

/// Domains of which DNS must tell the site, and the sites of the others.
pub fn to_ask(shaping: &Shaping) -> (Vec<Domain>, Sites) {
    let (mut asked, mut known) = (Vec::new(), Sites::new());
    for wanted in shaping.domains_to_find() {
        if let Some(hosts) = wanted.mx_hosts {
            let site = site_name(hosts.iter().map(|host| &**host));
            known.insert(wanted.domain.into(), Found::Site(site));
        } else if let Ok(domain) = Domain::parse(wanted.domain) {
            asked.push(domain);
        } else {
            let why = Found::Unknown("it is no domain".into());
            known.insert(wanted.domain.into(), why);
        }
    }
    (asked, known)
}

#[cfg(test)]
mod tests {
    use posthaste_core::words::SiteName;

    use super::*;

    fn told(found: Found) -> Sites {
        Sites::from([("a.test".into(), found)])
    }

    #[test]
    fn what_dns_does_not_answer_changes_nothing_that_was_known_and_is_told_once() {
        let mut atlas = Atlas::default();
        let site = || Found::Site(SiteName::new("mx.a.test"));
        let silent = || Found::Unanswered("no answer".into());
        let first = atlas.learn(told(silent()));
        let remark = first.remark.unwrap();
        assert!(remark.ends_with("hold for the domain alone"), "{remark}");
        assert!(first.is_news && atlas.is_doubtful());
        let found = atlas.learn(told(site()));
        assert_eq!(
            found.remark.as_deref(),
            Some("the sites of all rules are known")
        );
        assert!(found.is_news && !atlas.is_doubtful());
        let lost = atlas.learn(told(silent()));
        assert!(!lost.is_news, "its rules hold where they did");
        assert!(lost.remark.unwrap().contains("at mx.a.test, where it was"));
        assert_eq!(atlas.learn(told(silent())).remark, None, "it is told once");
        let back = atlas.learn(told(site()));
        assert!(!back.is_news && back.remark.is_some());
        let gone = atlas.learn(told(Found::Unknown("no such domain".into())));
        assert_eq!(
            (gone.is_news, gone.remark),
            (true, None),
            "that is an answer"
        );
    }
}
