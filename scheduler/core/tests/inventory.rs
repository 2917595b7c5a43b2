//! Inventory files: a right one gives the continuum, a wrong one says what is wrong, all at once.

use sterna_core::continuum::pod::{ClusterNodes, Pod, Storage};
use sterna_core::continuum::{NodeName, Restart, Run, ServiceName, SiteName, UsersName, inventory};
use sterna_policies::quantity::{Bytes, Cores, GramsPerKwh, Millis};

const SMALL: &str = r#"
schema_version = 1
name = "small"

[[site]]
name = "edge-a"
tier = "edge"
region = "eu-west"
price = { node = "0.05USD/h", core = "0.01USD/h" }
power = { idle = "4W", full = "12W", off_when_empty = true }

[[site.node]]
name = "edge-a-1"
cpu = "2cores"
memory = "4GiB"
agent = "edge-a-1.example:7400"

[[site]]
name = "cloud"
tier = "cloud"
region = "eu-central"
price = { node = "0.40USD/h" }
power = { idle = "60W", full = "200W" }
carbon = "350g/kWh"

[[site.node]]
name = "cloud-1"
cpu = "16cores"
memory = "64GiB"
drain = true

[[link]]
between = ["edge-a", "cloud"]
rtt = "30ms"
bandwidth = "100Mbit/s"
egress = "0.08USD/GiB"

[[users]]
name = "town"
rates = { shop = "50/s" }
latency = { edge-a = "4ms", cloud = "34ms" }

[[service]]
name = "shop"
cpu = "0.5"
memory = "512MiB"

[service.run]
image = "redis:7"
command = ["redis-server", "--save", ""]
env = ["MODE=fast", "EMPTY="]
ports = ["6379/tcp"]
volumes = ["data:/data"]
on = "edge-a-1"
"#;

fn rendered(text: &str) -> String {
    let report = match inventory::load("inventory.toml", text) {
        Ok(loaded) => loaded.warnings,
        Err(invalid) => invalid.report().clone(),
    };
    assert!(!report.is_empty(), "nothing was found in:\n{text}");
    report.plain()
}

/// What is printed when one place of the small inventory is written otherwise.
fn changed(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "{from} is not in the inventory");
    rendered(&SMALL.replacen(from, to, 1))
}

#[test]
fn a_right_file_gives_the_continuum() {
    let loaded = inventory::load("inventory.toml", SMALL).unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings.plain());
    let continuum = loaded.value;
    let cloud = &continuum.nodes[&NodeName::from("cloud-1")];
    assert_eq!((cloud.site.as_str(), cloud.memory, cloud.drain), ("cloud", Bytes(64 << 30), true));
    assert_eq!(continuum.sites[&SiteName::from("edge-a")].carbon, None);
    assert_eq!(continuum.sites[&SiteName::from("cloud")].carbon, GramsPerKwh::from_f64(350.0));
    assert!(continuum.link(&"cloud".into(), &"edge-a".into()).is_some());
    let shop = ServiceName::from("shop");
    assert_eq!(continuum.users[&UsersName::from("town")].rates[&shop].as_f64(), 50.0);
    let run = continuum.services[&shop].run.as_ref().unwrap();
    assert_eq!((run.on.as_str(), run.command[2].as_str()), ("edge-a-1", ""));
    insta::assert_json_snapshot!(continuum);
}

#[test]
fn how_a_service_is_confined_is_read_and_not_written_where_it_is_left_out() {
    let more = "on = \"edge-a-1\"\nentrypoint = [\"/sbin/run\"]\nworking_dir = \"/srv\"\nuser = \"999:redis\"\n\
                memory_limit = \"64MiB\"\ncpu_limit = \"500m\"\nread_only = true\ndrop_capabilities = [\"ALL\"]\n\
                no_new_privileges = true\nrestart = \"on-failure\"\nstop_timeout = \"30s\"\n";
    let run = |text: &str| {
        let loaded = inventory::load("inventory.toml", text).unwrap();
        loaded.value.services[&ServiceName::from("shop")].run.clone().unwrap()
    };
    let confined = run(&SMALL.replace("on = \"edge-a-1\"\n", more));
    let plain = run(SMALL);
    assert_eq!(
        (confined.entrypoint.as_slice(), confined.working_dir.as_deref()),
        (&["/sbin/run".to_owned()][..], Some("/srv"))
    );
    assert_eq!(
        (confined.user.as_deref(), confined.memory_limit),
        (Some("999:redis"), Some(Bytes::from_mib(64)))
    );
    assert_eq!(
        (confined.cpu_limit, confined.stop_timeout),
        (Cores::from_f64(0.5), Millis::from_f64(30_000.0))
    );
    assert_eq!((confined.restart, plain.restart), (Restart::OnFailure, Restart::Always));
    assert!(confined.read_only && confined.no_new_privileges && confined.drop_capabilities == ["ALL"]);
    let written = serde_json::to_value(&plain).unwrap();
    let keys: Vec<&str> = written.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["command", "env", "image", "on", "ports", "volumes"], "as earlier versions wrote it");
    let again: Run = serde_json::from_value(serde_json::to_value(&confined).unwrap()).unwrap();
    assert_eq!(again, confined);
}

#[test]
fn how_a_service_can_not_be_confined() {
    for (key, wrong, code) in [
        ("working_dir", "\"srv\"", "I0022"),
        ("user", "\"a:b:c\"", "I0023"),
        ("user", "\"\"", "I0023"),
        ("drop_capabilities", "[\"net raw\"]", "I0024"),
        ("drop_capabilities", "[\"ALL\", \"ALL\"]", "I0014"),
        ("memory_limit", "\"1MiB\"", "I0025"),
        ("stop_timeout", "\"1500ms\"", "I0026"),
        ("restart", "\"sometimes\"", "on-failure"),
    ] {
        let said = changed("on = \"edge-a-1\"\n", &format!("on = \"edge-a-1\"\n{key} = {wrong}\n"));
        assert!(said.contains(code), "{key} = {wrong}: {said}");
    }
}

#[test]
fn names_that_no_one_declared() {
    let text = SMALL
        .replace("between = [\"edge-a\", \"cloud\"]", "between = [\"egde-a\", \"cloud\"]")
        .replace("rates = { shop", "rates = { chop")
        .replace("on = \"edge-a-1\"", "on = \"edge-a\"");
    insta::assert_snapshot!(rendered(&text));
}

#[test]
fn names_that_are_declared_twice_or_malformed() {
    let text = SMALL
        .replace("name = \"cloud-1\"", "name = \"edge-a-1\"")
        .replace("name = \"town\"", "name = \"Old Town\"");
    insta::assert_snapshot!(rendered(&text));
}

#[test]
fn links_that_lead_nowhere() {
    let again = "[[link]]\nbetween = [\"cloud\", \"edge-a\"]\nrtt = \"1ms\"\nbandwidth = \"0MiB/s\"\n\n[[link]]\nbetween = [\"cloud\", \"cloud\"]\nrtt = \"-1ms\"\nbandwidth = \"1MiB/s\"\n\n[[users]]";
    insta::assert_snapshot!(changed("[[users]]", again));
}

#[test]
fn how_a_service_is_started() {
    let text = SMALL
        .replace("image = \"redis:7\"", "image = \"\"")
        .replace("\"MODE=fast\", \"EMPTY=\"", "\"MODE\", \"A=1\", \"A=2\"")
        .replace("\"6379/tcp\"", "\"8080:80\", \"6379\", \"99999/tcp\", \"53/UDP\"")
        .replace("\"data:/data\"", "\"/srv/data:/data\", \"data:data\"");
    insta::assert_snapshot!(rendered(&text));
}

#[test]
fn a_service_that_is_too_large() {
    insta::assert_snapshot!(changed("memory = \"512MiB\"", "memory = \"128GiB\""));
    insta::assert_snapshot!(changed("memory = \"512MiB\"", "memory = \"8GiB\""));
}

#[test]
fn two_services_on_one_port() {
    let other = "\n[[service]]\nname = \"other\"\ncpu = \"0.1\"\nmemory = \"64MiB\"\nrun = { image = \"redis:7\", ports = [\"6379/tcp\"], on = \"edge-a-1\" }\n";
    insta::assert_snapshot!(rendered(&format!("{SMALL}{other}")));
}

#[test]
fn power_and_addresses() {
    let text = SMALL
        .replace("full = \"12W\"", "full = \"2W\"")
        .replace("drain = true", "agent = \"edge-a-1.example:7400\"")
        .replace("agent = \"edge-a-1.example:7400\"", "agent = \"edge-a-1.example\"");
    insta::assert_snapshot!(rendered(&text));
}

#[test]
fn a_node_that_is_a_pod() {
    let with = |kubernetes: &str| SMALL.replace("drain = true", &format!("kubernetes = {kubernetes}"));
    let pod = |kubernetes: &str| {
        let loaded = inventory::load("inventory.toml", &with(kubernetes)).unwrap();
        assert!(loaded.warnings.is_empty());
        let nodes = loaded.value.nodes;
        assert!(nodes.values().all(|node| !node.is_local()));
        nodes[&NodeName::from("cloud-1")].kubernetes.clone().unwrap()
    };
    let plain = Pod {
        context: None,
        namespace: "sterna".to_owned(),
        on: ClusterNodes::Any,
        storage: Storage::EmptyDir,
        image: None,
    };
    assert_eq!(pod("{}"), plain);
    assert_eq!(pod("{ storage = \"emptyDir\" }"), plain);
    let all = r#"{ context = "far", namespace = "edge", node = "worker-1.example", storage = "20GiB", image = "r.example/n:1" }"#;
    let full = Pod {
        context: Some("far".to_owned()),
        namespace: "edge".to_owned(),
        on: ClusterNodes::Named("worker-1.example".to_owned()),
        storage: Storage::Claim(Bytes::from_mib(20 * 1024)),
        image: Some("r.example/n:1".to_owned()),
    };
    assert_eq!(pod(all), full);
    let labels = [("topology.kubernetes.io/zone".to_owned(), "a".to_owned())].into();
    let selected = Pod { on: ClusterNodes::Selected(labels), ..plain };
    assert_eq!(pod(r#"{ selector = { "topology.kubernetes.io/zone" = "a" } }"#), selected);

    let two = with(r#"{ node = "w", selector = { zone = "a" } }"#)
        .replace("cpu = \"16cores\"", "cpu = \"16cores\"\nagent = \"cloud-1.example:7400\"");
    insta::assert_snapshot!(rendered(&two));
    insta::assert_snapshot!(rendered(&with(
        r#"{ context = "", namespace = "Edge", node = "w_1", storage = "much", image = "a b" }"#
    )));
    insta::assert_snapshot!(rendered(&with(r#"{ selector = { "a/b/c" = "-" }, storage = "0GiB" }"#)));
    insta::assert_snapshot!(rendered(&with(r#"{ contxt = "far" }"#)));
    let long = with("{}").replace("cloud-1", &format!("cloud-{}", "1".repeat(50)));
    insta::assert_snapshot!(rendered(&long));
}

#[test]
fn where_users_are_probed() {
    let probed = |probe: &str| SMALL.replace("rates = {", &format!("probe = {probe}\nrates = {{"));
    let right = probed(r#"["10.0.0.5:443", "gateway.town.example:8443", "[fd00::1]:443"]"#);
    let loaded = inventory::load("inventory.toml", &right).unwrap();
    assert!(loaded.warnings.is_empty());
    let targets = &loaded.value.users[&UsersName::from("town")].probe;
    assert_eq!(targets[..], ["10.0.0.5:443", "gateway.town.example:8443", "[fd00::1]:443"]);
    insta::assert_snapshot!(rendered(&probed(r#"["10.0.0.5", "http://a:1", "a:0", "a:1", "a:1"]"#)));
    let many: Vec<String> = (1..=9).map(|port| format!("a:{port}")).collect();
    insta::assert_snapshot!(rendered(&probed(&format!("{many:?}"))));
    insta::assert_snapshot!(rendered(&probed("\"10.0.0.5:443\"")));
}

#[test]
fn missing_and_unknown_keys() {
    let text = SMALL.replace("tier = \"edge\"\n", "teir = \"edge\"\n").replace("cpu = \"2cores\"", "cpu = 2");
    insta::assert_snapshot!(rendered(&text));
}

#[test]
fn what_is_odd_is_a_warning() {
    let text = SMALL
        .replace("[[link]]\nbetween = [\"edge-a\", \"cloud\"]\nrtt = \"30ms\"\nbandwidth = \"100Mbit/s\"\negress = \"0.08USD/GiB\"\n", "")
        .replace("rates = { shop = \"50/s\" }\n", "")
        .replace("on = \"edge-a-1\"", "on = \"cloud-1\"")
        + "\n[[site]]\nname = \"fog\"\ntier = \"fog\"\nregion = \"eu-west\"\nprice = {}\npower = { idle = \"1W\", full = \"1W\" }\n";
    insta::assert_snapshot!(rendered(&text));
}

#[test]
fn an_empty_continuum_is_refused() {
    insta::assert_snapshot!(rendered("schema_version = 1\nname = \"none\"\n"));
}

proptest::proptest! {
    #[test]
    fn any_text_gets_an_answer(text in "\\PC{0,200}") {
        let _answer = inventory::load("inventory.toml", &text);
    }

    /// One character more, less or other: never a panic, and what is found has a place within the text.
    #[test]
    fn a_damaged_file_gets_an_answer(at in 0..SMALL.len(), len in 0usize..4, put in "[\\[\\]={}\"'\n #a0.é-]{0,3}") {
        let (from, to) = (at, (at + len).min(SMALL.len()));
        let damaged = format!("{}{put}{}", &SMALL[..from], &SMALL[to..]);
        if let Err(invalid) = inventory::load("inventory.toml", &damaged) {
            let report = invalid.report();
            proptest::prop_assert!(!report.is_empty());
            proptest::prop_assert!(report.diagnostics().iter().all(|found| found.span.end <= damaged.len()));
            proptest::prop_assert!(report.plain().contains("inventory.toml"));
        }
    }
}
