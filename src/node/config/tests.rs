//! What reading a configuration promises.

use super::*;
use crate::config::{print_defaults, print_reference};

fn from_file(text: &str) -> Result<Config, Vec<String>> {
    let settings = Settings {
        file: Some(("a.toml".into(), text.into())),
        ..Settings::default()
    };
    check(&settings).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

#[test]
fn defaults_are_within_their_bounds() {
    let config = check(&Settings::default()).unwrap();
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:2525");
    assert_eq!(config.http.address.to_string(), "127.0.0.1:8000");
    assert_eq!(config.trust.len(), 2);
    assert!(config.routes.is_empty() && config.http.token.is_none());
}

#[test]
fn the_example_file_and_the_reference_are_what_the_table_prints() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let example = fs::read_to_string(root.join("deploy/posthaste.toml")).unwrap();
    assert_eq!(
        example,
        print_defaults(),
        "posthaste check --print-defaults > deploy/posthaste.toml"
    );
    let reference = fs::read_to_string(root.join("docs/config.md")).unwrap();
    assert_eq!(
        reference,
        print_reference(),
        "posthaste check --print-reference > docs/config.md"
    );
    let read = format!("{:?}", from_file(&example).unwrap());
    assert_eq!(read, format!("{:?}", check(&Settings::default()).unwrap()));
}

#[test]
fn all_faults_are_told_each_with_its_place() {
    let faults = from_file(
        "[smtp]\nidel = \"5m\"\nrecipients_max = 5\n\n[delivery]\n  retry = [\"5m\", \"x\"]\nmax_age = 5\n\n\
         [[listener]]\n\n[[route]]\nnext_hop = [\":1\"]\n[trust]\nnetworks = [\"0.0.0.0/0\"]\n",
    )
    .unwrap_err();
    assert_eq!(
        faults,
        [
            "a.toml:2:1: `smtp.idel` is not a known key; did you mean `smtp.idle`?",
            "a.toml:3:18: `smtp.recipients_max` 5 is out of bounds: 100 to 100000",
            "a.toml:6:18: `delivery.retry[1]` must be a duration such as \"90s\" or \"5d\", found \"x\"",
            "a.toml:7:11: `delivery.max_age` must be a duration such as \"90s\" or \"5d\", found 5",
            "a.toml:9:1: `listener[0].address` must be given",
            "a.toml:12:13: `route[0].next_hop[0]` must be a host such as \"relay.example:25\", found \":1\"",
            "a.toml:14:13: `trust.networks[0]` 0.0.0.0/0 would let every client relay; name the networks that may",
        ]
    );
}

#[test]
fn flags_override_the_file_and_the_environment_sets_secrets() {
    let settings = Settings {
        file: Some((
            "a.toml".into(),
            "[[listener]]\naddress = \"127.0.0.1:25\"\n[http]\ntoken = \"file\"\n".into(),
        )),
        environment: vec![("POSTHASTE_HTTP_TOKEN".into(), "secret".into())],
        overrides: vec![
            Override::text("listener[0].address", "listen", "127.0.0.1:3000"),
            Override::text("listener[1].address", "listen", "127.0.0.1:3001"),
            Override::text("node.shards", "shards", "2"),
        ],
    };
    let config = check(&settings).unwrap();
    let ports: Vec<u16> = config.listeners.iter().map(|l| l.address.port()).collect();
    assert_eq!(ports, [3000, 3001]);
    assert_eq!(config.node.shards, Shards::Count(2));
    assert_eq!(config.http.token.as_ref().unwrap().reveal(), "secret");
    assert!(
        !format!("{config:?}").contains("secret\""),
        "a secret is never printed"
    );
}

#[test]
fn broken_toml_is_a_fault_with_a_place() {
    for text in [
        "[smtp",
        "a = ",
        "[smtp]\nidle = \"5m",
        "\u{0}",
        "[[smtp]]",
        "smtp = 5",
        "listener = 1",
        "x = 1979-05-27",
    ] {
        let faults = from_file(text).unwrap_err();
        assert!(faults[0].starts_with("a.toml:"), "{text}: {faults:?}");
    }
}

#[test]
fn a_postmaster_is_an_address_all_clients_can_write_to() {
    assert!(
        check(&Settings::default())
            .unwrap()
            .smtp
            .postmaster
            .is_none()
    );
    let config = from_file("[smtp]\npostmaster = \"Ops@Home.Example\"").unwrap();
    let postmaster = config.smtp.postmaster.unwrap();
    assert_eq!(postmaster.as_str(), "Ops@home.example");
    for wrong in ["ops", "\u{fc}@home.example"] {
        let faults = from_file(&format!("[smtp]\npostmaster = \"{wrong}\"")).unwrap_err();
        assert!(
            faults[0].starts_with("a.toml:2:14: `smtp.postmaster` must be an ASCII address"),
            "{faults:?}"
        );
    }
}
