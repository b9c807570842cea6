//! Scenarios: what came of a load against providers, held against what was expected.

use super::*;

fn scenario(place: &Place, target: &str, profile: &Path, more: &str) -> PathBuf {
    let path = profile.with_extension("scenario.toml");
    let text = format!(
        "name = \"s\"\nduration = \"20s\"\nquiet = \"300ms\"\n[target]\nsmtp = \"{target}\"\n[providers]\nprofiles = [\"{}\"]\n\
         dns = \"127.0.0.1:{}\"\naddresses = \"{}.0/24\"\nport = {}\n[[load]]\nmessages = 200\nsessions = 4\nsize = \"1k\"\ntimeout = \"500ms\"\n{more}",
        profile.display(),
        free_port(),
        place.net,
        place.port
    );
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_scenario_holds_what_came_of_it_against_what_was_expected() {
    let (place, profile) = (Place::new(), profile(HOST));
    let expect = "[[expect]]\nof = \"loads.0.accepted\"\nmin = 200\n[[expect]]\nof = \"providers.x.duplicates\"\nmax = 0\n";
    // The provider itself stands in for a server.
    let path = scenario(&place, &place.host(1), &profile, expect);
    let output = run(&["run", path.to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    assert_eq!(report["providers"]["x"]["accepted"], 200);
    assert_eq!(report["met"], true);
    let path = scenario(
        &place,
        &place.host(1),
        &profile,
        "[[expect]]\nof = \"providers.x.accepted\"\nmin = 201\n",
    );
    let output = run(&["run", path.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_load_goes_as_its_keys_say() {
    let (place, profile) = (Place::new(), profile(HOST));
    let mixed = "domains = [\"x.test=3\", \"y.test\"]\nsender = [\"a@s.test=2\", \"b@s.test\"]\ntenant = \"t\"\ncampaign = \"c\"\n\
                 no_pipelining = true\nsource_address = \"127.0.0.9\"\n";
    let path = scenario(&place, &place.host(1), &profile, mixed);
    let output = run(&["run", path.to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    let config = &report["loads"][0]["config"];
    assert_eq!(config["domain"], "x.test=3,y.test=1");
    assert_eq!(config["sender"], "a@s.test=2,b@s.test=1");
    assert_eq!(
        (&config["tenant"], &config["campaign"]),
        (&"t=1".into(), &"c=1".into())
    );
    assert_eq!(config["pipelining"], false);
    assert_eq!(config["source_address"][0], "127.0.0.9");
    assert_eq!(report["providers"]["x"]["accepted"], 200);
}

#[test]
fn a_load_may_go_over_http_to_a_port_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        listener
            .incoming()
            .for_each(|stream| inject(&stream.unwrap()))
    });
    let (place, profile) = (Place::new(), profile(HOST));
    let more = "http = true\nhttp_header = [\"Authorization: Bearer x\", \"X-More: y\"]\n";
    let path = scenario(&place, &place.host(1), &profile, more);
    let text = std::fs::read_to_string(&path).unwrap();
    let target = format!("[target]\nhttp = \"{target}\"\n");
    let text = text.replace("[target]\n", &target);
    std::fs::write(
        &path,
        text.replace(
            "messages = 200\nsessions = 4",
            "messages = 20\nsessions = 1",
        ),
    )
    .unwrap();
    let output = run(&["run", path.to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["loads"][0]["accepted"], 20, "{report}");
    assert_eq!(report["providers"]["x"]["accepted"], 0);
}

/// Takes all that is posted with both of our fields, over one connection.
fn inject(stream: &TcpStream) {
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    let (mut length, mut fields) = (0, 0);
    while lines.read_line(&mut line).is_ok_and(|octets| octets > 0) {
        if let Some(octets) = line.strip_prefix("Content-Length: ") {
            length = octets.trim().parse().unwrap();
        }
        fields += usize::from(line == "Authorization: Bearer x\r\n" || line == "X-More: y\r\n");
        if line == "\r\n" {
            lines.read_exact(&mut vec![0; length]).unwrap();
            let body = if fields == 2 {
                "{\"success_count\":1}"
            } else {
                "{}"
            };
            let mut out = stream;
            write!(
                out,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            fields = 0;
        }
        line.clear();
    }
}

#[test]
fn domains_that_a_load_has_no_room_for_are_told() {
    let text = format!("hosted_domains = 2_499\n{HOST}");
    let (place, profile) = (Place::new(), profile(&text));
    let path = scenario(&place, &place.host(1), &profile, "");
    let output = run(&["run", path.to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["loads"][0]["accepted"], 200, "{report}");
    assert_eq!(report["loads"][0]["domains_left_out"], 500);
    let output = run(&["run", path.to_str().unwrap()]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("500 of the providers' domains got no mail"),
        "{told}"
    );
    // One that names its own leaves none out.
    let path = scenario(&place, &place.host(1), &profile, "domains = \"x.test\"\n");
    let output = run(&["run", path.to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["loads"][0].get("domains_left_out"), None);
}

#[test]
fn a_target_that_refuses_stalls_or_closes_is_reported_and_never_a_hang() {
    let expect = "[[expect]]\nof = \"loads.0.accepted\"\nmin = 200\n";
    let stalling = TcpListener::bind("127.0.0.1:0").unwrap();
    let stalling = (stalling.local_addr().unwrap().to_string(), Some(stalling));
    let refusing = (format!("127.0.0.1:{}", free_port()), None);
    let closing = TcpListener::bind("127.0.0.1:0").unwrap();
    let closes_at = closing.local_addr().unwrap().to_string();
    std::thread::spawn(move || closing.incoming().for_each(drop));
    for (target, _listener) in [stalling, refusing, (closes_at, None)] {
        let (place, profile) = (Place::new(), profile(HOST));
        let path = scenario(&place, &target, &profile, expect);
        let began = Instant::now();
        let output = run(&["run", path.to_str().unwrap(), "--json"]);
        // The scenario ends after 20 s.
        assert!(began.elapsed() < Duration::from_secs(60));
        assert_eq!(output.status.code(), Some(1));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["loads"][0]["not_sent"], 200, "{report}");
        assert!(!report["loads"][0]["errors"].as_object().unwrap().is_empty());
    }
}

#[test]
fn a_wrong_scenario_is_told_with_place_and_nearest_key_and_exit_78() {
    let (place, wrong) = (
        Place::new(),
        profile("[[mx]]\nname = \"m.test\"\nadresses = 2\n"),
    );
    let sound = profile(HOST);
    for (profile, more, told) in [
        (
            &sound,
            "[[expect]]\nof = \"loads.0.accepted\"\nminn = 1\n",
            ".scenario.toml:18:1: `expect[0].minn` is not a known key; did you mean `min`?",
        ),
        (
            &wrong,
            "",
            ".toml:6:1: `mx[0].adresses` is not a known key; did you mean `addresses`?",
        ),
        (
            &sound,
            "[[expect]]\nof = \"providers.x.refused.contnet\"\nmax = 0\n",
            ".scenario.toml:17:6: `expect[0].of` names `contnet`, which is not a class of replies; did you mean `content`?",
        ),
    ] {
        let path = scenario(&place, &place.host(1), profile, more);
        let output = run(&["run", path.to_str().unwrap()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{error}");
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn a_server_that_dies_is_told() {
    let (place, profile) = (Place::new(), profile(HOST));
    let path = scenario(&place, &place.host(1), &profile, "");
    let text = std::fs::read_to_string(&path).unwrap();
    let command = "[target]\ncommand = [\"false\"]\n";
    std::fs::write(&path, text.replace("[target]\n", command)).unwrap();
    let output = run(&["run", path.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["server_ended"], "exit status: 1");
}

#[test]
fn an_interrupted_scenario_still_reports() {
    let (place, profile) = (Place::new(), profile(HOST));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let path = scenario(&place, &target, &profile, "rate = \"10/s\"\n");
    let child = Command::new(BINARY)
        .args(["run", path.to_str().unwrap(), "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    take_one(&listener);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["interrupted"], true);
    let accepted = report["loads"][0]["accepted"].as_u64().unwrap();
    assert!((1..200).contains(&accepted), "{report}");
}
