//! The sites of many domains, for those who have rules for them.

use std::rc::Rc;
use std::sync::Arc;

use posthaste_core::shaping::{Found, Sites};
use posthaste_core::words::{Domain, Plan, RouteError};

use super::Resolver;
use crate::rt::{now, spawn};

/// Domains that are looked up at one time.
const LOOKUPS_AT_ONCE: usize = 32;

/// Where `domains` are, a few of them asked for at a time.
pub async fn find_sites(dns: &Rc<Resolver>, domains: &[Domain]) -> Sites {
    let mut sites = Sites::new();
    for chunk in domains.chunks(LOOKUPS_AT_ONCE) {
        let found: Vec<_> = chunk
            .iter()
            .map(|domain| {
                let (dns, domain) = (Rc::clone(dns), domain.clone());
                spawn(async move {
                    let (route, _) = dns.resolve(&domain, now()).await;
                    (domain, found_by(&route))
                })
            })
            .collect();
        for one in found {
            let (domain, found) = one.join().await;
            sites.insert(domain.as_str().into(), found);
        }
    }
    sites
}

/// What a look-up says of a domain's site.
fn found_by(route: &Result<Arc<Plan>, RouteError>) -> Found {
    match route {
        Ok(plan) => Found::Site(plan.site.clone()),
        Err(RouteError::NullMx) => Found::NullMx,
        Err(why) if why.is_permanent() => Found::Unknown(why.to_string().into()),
        Err(why) => Found::Unanswered(why.to_string().into()),
    }
}
