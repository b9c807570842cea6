//! Shaping files: those that are shipped, and ten thousand rules of an operator over them.

use posthaste_core::shaping::{File, Layer, Overrides, Party, Shaping, SiteFacts, shipped};

use crate::T0;

/// Rules of [`many_rules`]; every second one is of a domain, the others are of providers.
pub const RULES: usize = 10_000;

const PARTY: Party<'static> = Party {
    source: "ip-1",
    tenant: "shop",
    campaign: "spring",
};

/// Where mail goes.
#[derive(Clone, Copy)]
pub struct Site {
    pub what: &'static str,
    domain: &'static str,
    mx_hosts: &'static [&'static str],
}

/// Sites that are known in different ways: by the shipped files, by many rules, or not at all.
pub const SITES: [Site; 4] = [
    Site {
        what: "a shipped provider",
        domain: "gmail.com",
        mx_hosts: &[
            "gmail-smtp-in.l.google.com",
            "alt1.gmail-smtp-in.l.google.com",
            "alt2.gmail-smtp-in.l.google.com",
        ],
    },
    Site {
        what: "a domain's rule",
        domain: "domain9998.example",
        mx_hosts: &["mx.domain9998.example"],
    },
    Site {
        what: "a provider's rule",
        domain: "customer.example",
        mx_hosts: &["mx1.provider9999.example", "mx2.provider9999.example"],
    },
    Site {
        what: "a stranger",
        domain: "nobody.example",
        mx_hosts: &["mx1.nobody.example", "mx2.nobody.example"],
    },
];

fn read(files: &[File<'_>]) -> Shaping {
    Shaping::read(files).unwrap_or_else(|faults| panic!("{}", faults[0]))
}

/// What is shipped.
pub fn shipped_rules() -> Shaping {
    let files: Vec<File<'_>> = shipped().collect();
    read(&files)
}

/// Ten thousand rules over what is shipped.
pub fn many_rules() -> Shaping {
    let rule = |n: usize| {
        if n.is_multiple_of(2) {
            format!("[\"domain{n}.example\"]\nmx_rollup = false\nmax_message_rate = \"5/m\"\n")
        } else {
            format!(
                "[provider.\"provider{n}\"]\nmatch = [{{ MXSuffix = \".provider{n}.example\" }}]\n\
                 provider_connection_limit = 9\n"
            )
        }
    };
    let text: String = (0..RULES).map(rule).collect();
    let operator = File {
        name: "many.toml",
        text: &text,
        layer: Layer::Operator,
    };
    let files: Vec<File<'_>> = shipped().chain([operator]).collect();
    read(&files)
}

fn facts(site: &Site) -> SiteFacts<'static> {
    SiteFacts {
        domain: site.domain,
        mx_hosts: site.mx_hosts,
        site: "site",
    }
}

/// What holds for mail to `site`; gives how many providers it was taken for.
pub fn resolve(shaping: &Shaping, overrides: &Overrides, site: &Site) -> usize {
    let effective = shaping.resolve(overrides, facts(site), PARTY, T0);
    effective.providers().count()
}

/// As a new lane asks: all values of its path, and its limits; gives how many limits.
pub fn resolve_whole(shaping: &Shaping, overrides: &Overrides, site: &Site) -> usize {
    let effective = shaping.resolve(overrides, facts(site), PARTY, T0);
    std::hint::black_box(effective.path());
    effective.limits().len()
}
