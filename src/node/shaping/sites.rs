//! Where domains with blocks of their own are: told by the file itself, or by DNS.

use posthaste_core::route::site_name;
use posthaste_core::shaping::{Found, Shaping, Sites};
use posthaste_core::words::Domain;

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
