//! The profiles that come with the program, and those that others wrote.

use super::profile::Profile;
use posthaste_core::words::nearest;
use std::io;
use std::path::Path;

/// Name and text of each shipped profile, as in `loadtest/provider/`.
pub const SHIPPED: &[(&str, &str)] = &[
    ("comcast", include_str!("../../provider/comcast.toml")),
    ("gateway", include_str!("../../provider/gateway.toml")),
    ("gmail", include_str!("../../provider/gmail.toml")),
    ("greylister", include_str!("../../provider/greylister.toml")),
    ("limiter", include_str!("../../provider/limiter.toml")),
    ("netflap", include_str!("../../provider/netflap.toml")),
    ("orange", include_str!("../../provider/orange.toml")),
    ("outlook", include_str!("../../provider/outlook.toml")),
    ("qq", include_str!("../../provider/qq.toml")),
    ("yahoo", include_str!("../../provider/yahoo.toml")),
];

/// The text of a shipped profile.
pub(super) fn shipped(name: &str) -> Option<&'static str> {
    let found = SHIPPED.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| *text)
}

/// What to say to a name that is none of them.
pub(super) fn known(name: &str) -> String {
    let names: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
    let nearest = nearest(name, names.iter().copied());
    let meant = nearest.map_or_else(String::new, |nearest| format!("did you mean {nearest}? "));
    format!("{meant}Shipped profiles are {}", names.join(", "))
}

/// The profile of a file, or a shipped one where `name` is that of one and no such file is there.
///
/// # Errors
/// A file that cannot be read; an inner [`crate::document::Faults`] where its text is wrong.
pub fn load(name: &str) -> io::Result<Profile> {
    let parsed = match shipped(name) {
        Some(text) if !Path::new(name).exists() => Profile::parse(&format!("{name}.toml"), text),
        _ => {
            let text = std::fs::read_to_string(name).map_err(|error| {
                let text = format!("{name}: {error}; {}", known(name));
                io::Error::new(error.kind(), text)
            })?;
            Profile::parse(name, &text)
        }
    };
    parsed.map_err(|faults| io::Error::new(io::ErrorKind::InvalidData, faults))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_profiles_are_sound_and_carry_their_names() {
        for (name, text) in SHIPPED {
            let profile = Profile::parse(name, text).unwrap_or_else(|faults| panic!("{faults}"));
            assert!(profile.name.starts_with(name), "{name}: {}", profile.name);
        }
    }

    #[test]
    fn no_two_shipped_profiles_share_a_domain_or_a_host() {
        let mut seen = std::collections::BTreeSet::new();
        for (name, _) in SHIPPED {
            let profile = load(name).unwrap();
            let hosts = profile.hosts.iter().map(|host| host.name.clone());
            for one in profile.domains.iter().cloned().chain(hosts) {
                assert!(seen.insert(one.clone()), "{name}: {one}");
            }
        }
    }
}
