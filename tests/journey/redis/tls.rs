//! Redis over TLS: one server, a cluster, and sentinels that name one.

use std::path::Path;

use super::*;

/// What a server proves itself with; each is the authority of itself and of the others.
struct Papers {
    cert: String,
    key: String,
}

impl Papers {
    fn of(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("good names");
        Self {
            cert: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        }
    }

    /// Settings of a server that speaks TLS alone, by name and value; the papers are put into `folder`.
    fn settings(&self, folder: &Path, port: &str) -> Vec<[String; 2]> {
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).expect("the folder is there");
            path.display().to_string()
        };
        let (cert, key) = (file("cert.pem", &self.cert), file("key.pem", &self.key));
        [
            ["port", "0"],
            ["tls-port", port],
            ["tls-auth-clients", "no"],
            ["tls-cert-file", &cert],
            ["tls-key-file", &key],
            ["tls-ca-cert-file", &cert],
        ]
        .map(|setting| setting.map(str::to_owned))
        .to_vec()
    }

    /// The same as arguments, and `more`.
    fn arguments(&self, folder: &Path, port: &str, more: &[&str]) -> Vec<String> {
        let settings = self.settings(folder, port).into_iter();
        let settings = settings.flat_map(|[name, value]| [format!("--{name}"), value]);
        settings
            .chain(more.iter().map(ToString::to_string))
            .collect()
    }
}

fn url(server: &RedisServer) -> String {
    format!("rediss://127.0.0.1:{}", server.port)
}

fn is_refused(options: Options) {
    let cell = Cell::start(options, Loss::Stop, 1);
    until("it is refused", || cell.lines().pop());
}

#[test]
fn redis_is_spoken_to_over_tls_with_a_password() {
    if !is_installed() {
        return;
    }
    let papers = Papers::of(&["localhost"]);
    let redis =
        RedisServer::with(|folder, port| papers.arguments(folder, port, &["--requirepass", "pw"]));
    let options = Options {
        urls: vec![format!("rediss://localhost:{}", redis.port)],
        password: Some(Password::new("pw")),
        authorities: Some(papers.cert.into_bytes()),
        ..options(&redis, 0)
    };
    assert!(!format!("{options:?}").contains("pw"));
    assert_works(options.clone());
    for wrong in [
        Options {
            password: Some(Password::new("other")),
            ..options.clone()
        },
        // The certificate is of a name alone.
        Options {
            urls: vec![url(&redis)],
            ..options.clone()
        },
        Options {
            authorities: None,
            ..options
        },
    ] {
        is_refused(wrong);
    }
}

#[test]
fn a_cluster_is_spoken_to_over_tls() {
    if !is_installed() {
        return;
    }
    let papers = Papers::of(&["localhost", "127.0.0.1"]);
    let nodes = RedisServer::cluster_of(&["--tls", "--insecure"], |folder, port| {
        let more = ["--cluster-enabled", "yes", "--tls-cluster", "yes"];
        papers.arguments(folder, port, &more)
    });
    let options = Options {
        topology: Topology::Cluster,
        urls: nodes.iter().map(url).collect(),
        authorities: Some(papers.cert.into_bytes()),
        ..options(&nodes[0], 0)
    };
    assert_works(options.clone());
    is_refused(Options {
        authorities: None,
        ..options
    });
}

#[test]
fn sentinels_and_the_server_that_they_name_are_spoken_to_over_tls() {
    if !is_installed() {
        return;
    }
    let papers = Papers::of(&["127.0.0.1"]);
    let redis =
        RedisServer::with(|folder, port| papers.arguments(folder, port, &["--requirepass", "pw"]));
    let folder = redis.folder();
    let sentinel = RedisServer::sentinel_of(&redis, |port| {
        let settings = papers.settings(&folder, port).into_iter();
        let lines: String = settings
            .map(|[name, value]| format!("{name} {value}\n"))
            .collect();
        // By TLS to the server as well.
        lines + "tls-replication yes\n"
    });
    let options = Options {
        topology: Topology::Sentinel {
            master: "shared".into(),
        },
        urls: vec![url(&sentinel)],
        password: Some(Password::new("pw")),
        authorities: Some(papers.cert.into_bytes()),
        ..options(&redis, 0)
    };
    assert_works(options.clone());
    is_refused(Options {
        authorities: None,
        ..options
    });
}
