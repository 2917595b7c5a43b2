//! Layers, several policies, and what is wrong with settings.

use super::*;
use crate::webhook::Kind;

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sterna.toml");
    std::fs::write(&path, text).unwrap();
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Settings::load_with(&path, environment).map(|mut settings| {
        let paths = [&mut settings.inventory, &mut settings.state];
        for path in paths.into_iter().chain(&mut settings.policies) {
            if let Ok(rest) = path.strip_prefix(folder.path()) {
                *path = Path::new("/here").join(rest);
            }
        }
        settings
    })
}

const LEAST: &str = "inventory = \"inventory.toml\"\npolicy = \"p/latency.toml\"\n";
const HOME: (&str, &str) = ("HOME", "/home/op");

#[test]
fn defaults_lie_below_the_file_and_the_environment_above() {
    let settings = load(LEAST, &[HOME]).unwrap();
    assert_eq!(settings.inventory, Path::new("/here/inventory.toml"));
    assert_eq!(settings.policies, [Path::new("/here/p/latency.toml")]);
    assert_eq!(settings.state, Path::new("/home/op/.local/state/sterna"));
    assert_eq!(settings.authority_of("demo"), Path::new("/home/op/.local/state/sterna/demo/authority"));
    assert_eq!(settings.listen.to_string(), "127.0.0.1:7400");
    assert_eq!((settings.seed, settings.cycles), (0, None));
    assert_eq!((settings.token_file, settings.keep), (None, "90d".parse().unwrap()));
    assert_eq!(settings.calibration, None);
    assert_eq!(settings.probes, None);

    let text = format!(
        "{LEAST}calibration = \"c.toml\"\nseed = 7\nstate = \"s\"\n[prometheus]\nurl = \"http://a:1\"\ntimeout = \"3s\"\n"
    );
    let settings = load(&text, &[HOME, ("XDG_STATE_HOME", "/x")]).unwrap();
    assert_eq!((settings.seed, settings.state.as_path()), (7, Path::new("/here/s")));
    assert!(settings.calibration.unwrap().ends_with("c.toml"));
    assert_eq!(settings.prometheus.url, "http://a:1");

    let over =
        [("STERNA__PROMETHEUS__URL", "http://b:2"), ("STERNA__SEED", "9"), ("STERNA__CYCLES", "2"), HOME];
    let settings = load(&text, &over).unwrap();
    assert_eq!(settings.prometheus.url, "http://b:2");
    assert_eq!(settings.prometheus.timeout.as_f64(), 3000.0);
    assert_eq!((settings.seed, settings.cycles), (9, Some(2)));
}

#[test]
fn there_may_be_several_policies() {
    let several = "inventory = \"i\"\npolicies = [\"a.toml\", \"p/b.toml\"]\n";
    let settings = load(several, &[HOME]).unwrap();
    assert_eq!(settings.policies, [Path::new("/here/a.toml"), Path::new("/here/p/b.toml")]);
    let error = load(several, &[HOME, ("STERNA__POLICY", "c.toml")]).unwrap_err().to_string();
    assert!(error.contains("`policy` and `policies`"), "{error}");
}

#[test]
fn there_are_probes_where_their_table_stands() {
    let probes = |text: &str, environment: &[(&str, &str)]| {
        load(&format!("{LEAST}{text}"), &[environment, &[HOME]].concat()).unwrap().probes
    };
    assert_eq!(probes("[probes]\n", &[]), Some("1m".parse().unwrap()));
    assert_eq!(probes("[probes]\ninterval = \"30s\"\n", &[]), Some("30s".parse().unwrap()));
    assert_eq!(probes("", &[("STERNA__PROBES__INTERVAL", "5m")]), Some("5m".parse().unwrap()));
}

#[test]
fn a_mistake_in_the_file_is_shown_with_its_line() {
    let reports = [
        "polcy = \"x\"",
        "policies = [\"x\"]",
        "policies = []",
        "seed = \"5\"",
        "seed = 5.7",
        "seed = -1",
        "cycles = 0",
        "listen = \"nowhere\"",
        "prometheus = { timeout = 5 }",
        "prometheus = { timeout = \"5\", url = \"localhost:9090\" }",
        "history = { keep = \"0s\" }",
        "probes = { interval = \"5s\" }",
        "api = { token = \"x\" }",
        "webhook = [{ url = \"hooks.example.org\" }]",
        "webhook = [{ url = \"ftp://hooks.example.org/x\", events = [] }]",
        "webhook = [{ url = \"https://a/b\", events = [\"reload\", \"decisions\"] }]",
        "webhook = [{ url = \"https://a/b\", events = [\"reload\", \"reload\"] }]",
        "webhook = { url = \"https://a/b\" }",
        "traces = { endpoint = \"localhost:4318\", sample = 10 }",
        "traces = { endpoint = \"http://localhost:4318\", sampel = 0.1 }",
        "leader = { lease = \"Sterna\", namespace = \"a.b\", term = \"2s\" }",
        "leader = { name = \"sterna\" }",
        "kubernetes = { migrations = \"Sterna\", keep = 2000 }",
        "kubernetes = { migration = \"sterna\" }",
        "seed = ",
    ]
    .map(|line| {
        let error = load(&format!("{LEAST}{line}\n"), &[HOME]).unwrap_err();
        let SettingsError::Invalid(invalid) = &error else { panic!("{error}") };
        let report = invalid.report();
        let lines = report.lines();
        // The words about a file's form are the policy language's own.
        let here = |line: &str| {
            let line = &line[line.find("sterna.toml").unwrap()..];
            let end = if line.contains("[F") { line.find(']').unwrap() + 1 } else { line.len() };
            line[..end].to_owned()
        };
        format!("{line}\n{}", lines.lines().map(here).collect::<Vec<_>>().join("\n"))
    });
    insta::assert_snapshot!(reports.join("\n\n"));
}

#[test]
fn receivers_take_all_events_unless_some_are_named_and_their_addresses_are_not_shown() {
    let text = format!(
        "{LEAST}[[webhook]]\nurl = \"https://user:pass@a.example:8443/s3cret\"\nsecret_file = \"key\"\n\
         [[webhook]]\nurl = \"http://127.0.0.1/\"\nevents = [\"migration\", \"breaker\"]\n"
    );
    let webhooks = load(&text, &[HOME]).unwrap().webhooks;
    assert_eq!(webhooks[0].kinds, Kind::ALL.into());
    assert!(webhooks[0].secret_file.as_ref().unwrap().ends_with("key"));
    assert!(webhooks[0].secret_file.as_ref().unwrap().is_absolute(), "beside the settings");
    assert_eq!(webhooks[1].kinds, [Kind::Migration, Kind::Breaker].into());
    assert_eq!(webhooks[0].host(), "a.example:8443");
    let shown = format!("{webhooks:?}");
    assert!(!shown.contains("s3cret") && !shown.contains("pass"), "{shown}");
}

#[test]
fn all_traces_are_sent_unless_a_share_is_named() {
    let text = format!("{LEAST}[traces]\nendpoint = \"http://127.0.0.1:4318\"\n");
    let traces = load(&text, &[HOME]).unwrap().traces.unwrap();
    assert_eq!((traces.url().as_str(), traces.sample), ("http://127.0.0.1:4318/v1/traces", 1.0));
    let over = [("STERNA__TRACES__SAMPLE", "0.25"), ("STERNA__TRACES__ENDPOINT", "https://c/otlp/"), HOME];
    let traces = load(LEAST, &over).unwrap().traces.unwrap();
    assert_eq!((traces.url().as_str(), traces.sample), ("https://c/otlp/v1/traces", 0.25));
}

#[test]
fn the_environment_is_read_as_strictly() {
    for (variable, expected) in [
        (("STERNA__SEED", "5.7"), "5.7"),
        (("STERNA__CYCLES", "0"), "at least 1"),
        (("STERNA__SEEED", "5"), "seeed"),
        (("STERNA__PROMETHEUS__TIMEOUT", "5"), "timeout"),
        (("STERNA__PROMETHEUS__TIMEOUT", "0s"), "timeout"),
        (("STERNA__HISTORY__KEEP", "0s"), "history.keep"),
        (("STERNA__PROBES__INTERVAL", "1s"), "probes.interval"),
        (("STERNA__LISTEN", "x"), "x"),
        (("STERNA__TRACES__SAMPLE", "0.5"), "endpoint"),
        (("STERNA__PROMETHEUS__URL", "localhost"), "http://"),
    ] {
        let error = load(LEAST, &[HOME, variable]).unwrap_err();
        assert!(matches!(error, SettingsError::Layers { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    // Other variables of the program don't get in the way.
    assert!(load(LEAST, &[HOME, ("STERNA_LOG", "debug")]).is_ok());
    assert!(load("inventory = \"i\"\n", &[HOME]).unwrap_err().to_string().contains("policy"));
    assert!(load(LEAST, &[]).is_err());
}

#[test]
fn one_of_several_leads_where_its_table_stands() {
    let leader = |text: &str, environment: &[(&str, &str)]| {
        load(&format!("{LEAST}{text}"), &[environment, &[HOME]].concat()).map(|settings| settings.leader)
    };
    assert_eq!(leader("", &[]).unwrap(), None);
    let usual = leader("[leader]\n", &[]).unwrap().unwrap();
    assert_eq!((usual.lease.as_str(), usual.term.as_f64()), ("sterna", 15_000.0));
    assert_eq!((usual.namespace, usual.kubeconfig), (None, None));
    let named = "[leader]\nlease = \"a\"\nnamespace = \"b\"\nkubeconfig = \"k\"\nterm = \"6s\"\n";
    let named = leader(named, &[("STERNA__LEADER__LEASE", "c")]).unwrap().unwrap();
    assert_eq!((named.lease.as_str(), named.namespace.as_deref()), ("c", Some("b")));
    let kubeconfig = named.kubeconfig.unwrap();
    assert!(kubeconfig.ends_with("k") && kubeconfig.is_absolute(), "beside the settings");
    assert_eq!(named.term.as_f64(), 6_000.0);
    let error = leader("", &[("STERNA__LEADER__TERM", "1s")]).unwrap_err().to_string();
    assert!(error.contains("leader.term"), "{error}");
    let error = leader("", &[("STERNA__LEADER__LEASE", "A")]).unwrap_err().to_string();
    assert!(error.contains("leader.lease"), "{error}");
}

#[test]
fn migrations_are_shown_where_a_namespace_is_named() {
    let shown = |text: &str, environment: &[(&str, &str)]| {
        load(&format!("{LEAST}{text}"), &[environment, &[HOME]].concat()).map(|settings| settings.kubernetes)
    };
    assert_eq!(shown("", &[]).unwrap(), None);
    let usual = shown("[kubernetes]\nmigrations = \"a\"\n", &[]).unwrap().unwrap();
    assert_eq!((usual.migrations.as_deref(), usual.keep, usual.kubeconfig), (Some("a"), 50, None));
    let led = shown("[kubernetes]\nendpoints = [\"b\", \"a\", \"b\"]\n", &[]).unwrap().unwrap();
    assert_eq!((led.migrations, led.endpoints), (None, vec!["a".to_owned(), "b".to_owned()]));
    let names = ("STERNA__KUBERNETES__ENDPOINTS", "d, c");
    let led = shown("[kubernetes]\nmigrations = \"a\"\nendpoints = [\"b\"]\n", &[names]).unwrap().unwrap();
    assert_eq!((led.migrations.as_deref(), led.endpoints), (Some("a"), vec!["c".to_owned(), "d".to_owned()]));
    // What is said in the file of a thing goes with what a variable says of it.
    let [services, endpoints] =
        [("STERNA__KUBERNETES__SERVICES", "apps"), ("STERNA__KUBERNETES__ENDPOINTS", "apps")];
    let both = shown("[kubernetes]\nstand_in_image = \"i:1\"\n", &[services, endpoints]).unwrap().unwrap();
    assert_eq!((both.services.as_deref(), both.stand_in_image.as_deref()), (Some("apps"), Some("i:1")));
    assert_eq!(both.endpoints, ["apps"]);
    let declared = "[kubernetes]\nservices = \"apps\"\nstand_in_image = \"i:1\"\n";
    let declared = shown(declared, &[]).unwrap().unwrap();
    assert_eq!(
        (declared.services.as_deref(), declared.stand_in_image.as_deref()),
        (Some("apps"), Some("i:1"))
    );
    let named = "[kubernetes]\nmigrations = \"a\"\nkeep = 3\nkubeconfig = \"k\"\n";
    let named = shown(named, &[("STERNA__KUBERNETES__KEEP", "4")]).unwrap().unwrap();
    assert_eq!(named.keep, 4);
    let kubeconfig = named.kubeconfig.unwrap();
    assert!(kubeconfig.ends_with("k") && kubeconfig.is_absolute(), "beside the settings");
    for (text, variable, key) in [
        ("[kubernetes]\n", ("A", "b"), "`kubernetes.services` or `kubernetes.endpoints`"),
        ("[kubernetes]\nendpoints = []\n", ("A", "b"), "`kubernetes.services` or `kubernetes.endpoints`"),
        ("[kubernetes]\nendpoints = [\"A\"]\n", ("A", "b"), "no such name as `A`"),
        ("", ("STERNA__KUBERNETES__MIGRATIONS", "A"), "kubernetes.migrations"),
        ("", ("STERNA__KUBERNETES__SERVICES", "A"), "kubernetes.services"),
        ("", ("STERNA__KUBERNETES__ENDPOINTS", "a,"), "kubernetes.endpoints"),
        ("[kubernetes]\nendpoints = \"a\"\n", ("A", "b"), "endpoints"),
        ("[kubernetes]\nservices = \"A\"\n", ("A", "b"), "no such name as `A`"),
        ("[kubernetes]\nservices = \"a\"\nstand_in_image = \"a b\"\n", ("A", "b"), "is not an image"),
        ("[kubernetes]\nmigrations = \"a\"\n", ("STERNA__KUBERNETES__KEEP", "5000"), "kubernetes.keep"),
    ] {
        let error = shown(text, &[variable]).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}
