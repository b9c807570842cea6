//! What reading a configuration promises.

use posthaste_core::egress::proxy::haproxy::Version;
use posthaste_core::egress::proxy::socks5::Login;
use posthaste_core::egress::{Proxy, Source};

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
fn headers_for_records_are_names_of_fields_each_given_once() {
    let config = from_file("[log]\nheaders = [\"X-Campaign\", \"Subject\"]\n").unwrap();
    assert_eq!(config.log.headers, ["X-Campaign", "Subject"].map(Box::from));
    let faults = |names: &str| from_file(&format!("[log]\nheaders = [{names}]\n")).unwrap_err();
    for bad in ["", "a b", "X:", "\u{fc}"] {
        let told = faults(&format!("{bad:?}")).remove(0);
        assert!(told.contains("`log.headers[0]` must be the name"), "{told}");
    }
    let told = faults("\"Subject\", \"subject\"").remove(0);
    assert!(told.contains("stands twice: subject"), "{told}");
    let many: Vec<String> = (0..17).map(|n| format!("\"X-{n}\"")).collect();
    let told = faults(&many.join(", ")).remove(0);
    assert!(
        told.contains("a list of 17 is out of bounds: at most 16"),
        "{told}"
    );
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
fn who_spells_a_key_otherwise_is_told_what_there_is() {
    for (text, told) in [
        (
            "smpt.idle = 5",
            "`smpt` is not a known key; did you mean `smtp`?",
        ),
        (
            "smtp.listen = 5",
            "`smtp.listen` is not a known key; did you mean `listener`?",
        ),
        (
            "smtp.hostname = 5",
            "`smtp.hostname` is not a known key; did you mean `node.hostname`?",
        ),
        (
            "http.listen = 5",
            "`http.listen` is not a known key; there is `http.address`, `http.token`",
        ),
        ("smtp.colour = 5", "`smtp.colour` is not a known key"),
    ] {
        let faults = from_file(text).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].ends_with(told), "{faults:?}");
    }
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

#[test]
fn sources_are_read_with_their_proxies() {
    let text = "delivery.sources = [\"192.0.2.1\"]\n\
        [[source]]\nname = \"a\"\naddress = \"192.0.2.7\"\nehlo_name = \"a.example\"\nttl = 9\n\
        proxy = { kind = \"haproxy-v2\", server = \"198.51.100.1:5200\" }\n\
        [[source]]\nname = \"b\"\nenabled = false\n\
        [source.proxy]\nkind = \"socks5\"\nserver = \"[::1]:1080\"\nuser = \"u\"\npassword = \"file\"\n\
        [[source]]\nname = \"c\"\nproxy = { kind = \"socks5\", server = \"[::1]:1080\" }\n";
    for (environment, password) in [(vec![], "file"), (vec!["word"], "word")] {
        let settings = Settings {
            file: Some(("a.toml".into(), text.into())),
            environment: environment
                .into_iter()
                .map(|value: &str| ("POSTHASTE_PROXY_PASSWORD".into(), value.into()))
                .collect(),
            ..Settings::default()
        };
        let config = check(&settings).unwrap();
        let [short, a, b, c] = &config.sources[..] else {
            panic!("four are given")
        };
        let one = "192.0.2.1";
        assert_eq!(*short, Source::new(one, one.parse().ok()));
        assert_eq!((&*a.name, a.ttl, a.enabled), ("a", Some(9), true));
        assert_eq!(a.ehlo.as_ref().unwrap().as_str(), "a.example");
        assert!(matches!(
            a.proxy,
            Some(Proxy::HaProxy { version: Version::V2, source, .. })
                if Some(source) == a.address
        ));
        assert!(!b.enabled && b.ttl.is_none());
        let login = Login::new("u", password);
        assert!(matches!(&b.proxy, Some(Proxy::Socks5 { login: l, .. }) if *l == login));
        assert!(matches!(&c.proxy, Some(Proxy::Socks5 { login: None, .. })));
    }
}

#[test]
fn a_source_that_cannot_be_is_told_with_its_place() {
    let faults = from_file(
        "delivery.sources = [\"192.0.2.1\", \"192.0.2.1\"]\n\
         [[source]]\naddress = \"nowhere\"\nttl = 256\n\
         [[source]]\nname = \"192.0.2.1\"\nproxy = { kind = \"socks4\", server = \"localhost:1\" }\n\
         [[source]]\nname = \"c\"\n[source.proxy]\nkind = \"haproxy-v1\"\nserver = \"127.0.0.1:1\"\nuser = \"x\"\n\
         [[source]]\nname = \"d\"\nproxy = { kind = \"socks5\", server = \"127.0.0.1:1\", usr = \"x\" }\n\
         [[source]]\nname = \"e\"\nproxy = { kind = \"socks5\", server = \"127.0.0.1:1\", password = \"x\" }\n\
         [[source]]\nname = \"f\"\nproxy = { server = \"127.0.0.1:1\" }\n",
    )
    .unwrap_err();
    let text = faults.join("\n");
    for told in [
        "`delivery.sources` stands twice: 192.0.2.1",
        "a.toml:2:1: `source[0].name` must be given",
        "a.toml:3:11: `source[0].address` must be an IP address of this host, found \"nowhere\"",
        "a.toml:4:7: `source[0].ttl` 256 is out of bounds: 0 to 255",
        "a.toml:6:8: `source[1].name` stands twice: 192.0.2.1",
        "a.toml:7:18: `source[1].proxy.kind` \"socks4\" is out of bounds: one of haproxy-v1, haproxy-v2, socks5",
        "`source[1].proxy.server` must be an address with port",
        "a.toml:8:1: `source[2].address` must be given",
        "a.toml:13:8: `source[2].proxy.user` has no place here: a HAProxy asks for none",
        "`source[3].proxy.usr` is not a known key; did you mean `source[].proxy.user`?",
        "`source[4].proxy.user` must be given",
        "`source[5].proxy.kind` must be given",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
}

#[test]
fn redis_is_off_unless_named_and_its_password_is_never_printed() {
    assert!(check(&Settings::default()).unwrap().redis.is_none());
    let settings = Settings {
        file: Some((
            "a.toml".into(),
            "[redis]\nurls = [\"rediss://a:1\", \"rediss://b:2\"]\nkind = \"sentinel\"\n\
             sentinel_master = \"m\"\non_redis_loss = \"stop\"\n"
                .into(),
        )),
        environment: vec![("POSTHASTE_REDIS_PASSWORD".into(), "hush".into())],
        ..Settings::default()
    };
    let config = check(&settings).unwrap();
    assert!(!format!("{config:?}").contains("hush"));
    let redis = config.redis.unwrap();
    assert_eq!(redis.kind, RedisKind::Sentinel { master: "m".into() });
    assert_eq!(redis.on_loss, RedisLoss::Stop);
    assert_eq!(redis.password.unwrap().reveal(), "hush");
    let faults = from_file("[redis]\nurls = [\"redis://u:p@a\"]").unwrap_err();
    assert!(faults[0].starts_with("a.toml:2:9: `redis.urls[0]` must be a URL"));
    let two = "[redis]\nurls = [\"redis://a\", \"redis://b\"]";
    assert!(from_file(two).unwrap_err()[0].contains("`redis.urls` a list of 2 is out of bounds"));
    let nameless = "[redis]\nurls = [\"redis://a\"]\nkind = \"sentinel\"";
    assert!(from_file(nameless).unwrap_err()[0].ends_with("`redis.sentinel_master` must be given"));
}
