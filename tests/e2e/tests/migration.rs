//! Real services move between real nodes, with their state, and stay whole when that can't be done.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use std::time::Duration;

use serde::Deserialize;
use sterna_e2e::continuum::Continuum;
use sterna_e2e::dataset::Dataset;
use sterna_e2e::digest::{Digest, PORT, Reference};
use sterna_e2e::sterna::Sterna;
use sterna_e2e::writer::Writer;
use sterna_e2e::{docker, ticker};

/// Three sites, a node each, and the services of one test.
fn inventory(name: &str, services: &str) -> String {
    let mut text = format!("schema_version = 1\nname = \"{name}\"\n");
    for site in ["a", "b", "c"] {
        text.push_str(&format!(
            "[[site]]\nname = \"{site}\"\ntier = \"edge\"\nregion = \"eu\"\nprice = {{ node = \"0.1USD/h\" }}\n\
             power = {{ idle = \"5W\", full = \"20W\" }}\n\
             [[site.node]]\nname = \"{site}1\"\ncpu = \"2\"\nmemory = \"4GiB\"\n"
        ));
    }
    for pair in [["a", "b"], ["b", "c"], ["a", "c"]] {
        text.push_str(&format!(
            "[[link]]\nbetween = [\"{}\", \"{}\"]\nrtt = \"1ms\"\nbandwidth = \"1Gbit/s\"\n",
            pair[0], pair[1]
        ));
    }
    text + services
}

fn service(name: &str, command: &str, extra: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\ncpu = \"0.2\"\nmemory = \"256MiB\"\n[service.run]\n\
         image = \"sterna-services:latest\"\ncommand = {command}\n{extra}\non = \"a1\"\n"
    )
}

fn redis() -> String {
    let command =
        r#"["redis-server", "--save", "", "--protected-mode", "no", "--enable-debug-command", "local"]"#;
    service("redis", command, "ports = [\"6379/tcp\"]")
}

/// As much of the report as is looked at.
#[derive(Debug, Deserialize)]
struct Report {
    outcome: Outcome,
    downtime: Option<String>,
    frozen_in_vain: String,
    phases: Vec<Reached>,
    forecast: Option<Forecast>,
}

#[derive(Debug, Deserialize)]
struct Reached {
    phase: String,
    bytes: String,
}

#[derive(Debug, Deserialize)]
struct Forecast {
    learnt_from: usize,
}

impl Report {
    /// MiB that crossed on the way to a phase.
    fn mib(&self, phase: &str) -> f64 {
        let bytes = &self.phases.iter().find(|one| one.phase == phase).expect("it was reached").bytes;
        let bytes: f64 = bytes.strip_suffix("B").and_then(|bytes| bytes.parse().ok()).expect("bytes");
        bytes / 1_048_576.0
    }
}

#[derive(Debug, Deserialize)]
struct Finding {
    code: String,
    subject: String,
    what: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
enum Outcome {
    Moved,
    RolledBack { reason: String },
    Refused { findings: Vec<Finding> },
}

fn millis(text: &str) -> f64 {
    text.strip_suffix("ms").and_then(|number| number.parse().ok()).expect("a time in milliseconds")
}

/// Asks for a move and gives the report, whatever came of it.
async fn migrate(sterna: &Sterna, continuum: &Continuum, service: &str, to: &str) -> Report {
    migrate_with(sterna, continuum, &[service, "--to", to]).await
}

async fn migrate_with(sterna: &Sterna, continuum: &Continuum, how: &[&str]) -> Report {
    let (file, state) = (continuum.file().display().to_string(), continuum.state().display().to_string());
    let arguments =
        [&["migrate"], how, &["--output", "json", "--inventory", &file, "--state", &state]].concat();
    let finished = sterna.run_in(continuum.folder(), &[], &arguments).await.unwrap();
    let report: Report = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("no report ({error}): {} {}", finished.stdout, finished.stderr));
    assert_eq!(finished.status.success(), matches!(report.outcome, Outcome::Moved));
    report
}

async fn moved(sterna: &Sterna, continuum: &Continuum, service: &str, to: &str) -> f64 {
    let report = migrate(sterna, continuum, service, to).await;
    assert!(matches!(report.outcome, Outcome::Moved), "{service} to {to}: {report:?}");
    assert_eq!(continuum.runs_on(service).await.unwrap(), Some(to));
    millis(&report.downtime.expect("a move has a downtime"))
}

async fn redis_run_id(continuum: &Continuum, node: &str) -> String {
    let info = continuum.exec(node, "redis", &["redis-cli", "info", "server"]).await.unwrap();
    info.lines().find(|line| line.starts_with("run_id:")).expect("Redis tells its run_id").trim().to_owned()
}

#[tokio::test]
async fn redis_goes_round_with_100_000_keys_while_a_client_writes() {
    let sterna = Sterna::built().unwrap();
    let continuum = Continuum::up(&sterna, &inventory("e2e-redis", &redis())).await.unwrap();
    continuum.services_up().await.unwrap();
    let addresses = continuum.addresses(PORT).await.unwrap();
    let dataset = Dataset::new(100_000);
    dataset.load(addresses[0]).await.unwrap();
    let run_id = redis_run_id(&continuum, "a1").await;
    let mut writer = Writer::start(&addresses, dataset);
    for (to, index) in [("b1", 1), ("c1", 2), ("a1", 0)] {
        let before = writer.seen().writes;
        let downtime = moved(&sterna, &continuum, "redis", to).await;
        println!("redis to {to}: downtime {downtime:.0} ms");
        let most = Duration::from_secs(20);
        writer
            .wait_until(most, |seen| seen.served_by == Some(index) && seen.writes > before + 500)
            .await
            .unwrap();
    }
    let (dataset, seen) = writer.stop().await.unwrap();
    println!("{} writes acknowledged, longest gap {:?}", seen.writes, seen.longest_gap);
    assert_eq!(redis_run_id(&continuum, "a1").await, run_id);
    assert_eq!(dataset.differences(addresses[0], 5).await.unwrap(), Vec::<String>::new());
    let reference = Reference::start("sterna-e2e-migration-reference").await.unwrap();
    let held = continuum.exec("a1", "redis", &["redis-cli", "debug", "digest"]).await.unwrap();
    assert_eq!(Digest::read(&held).unwrap(), reference.digest_of(&dataset).await.unwrap());
    drop(reference);
    continuum.down().await.unwrap();
}

#[tokio::test]
async fn memory_crosses_while_the_service_runs() {
    let sterna = Sterna::built().unwrap();
    let services = ticker::service("ticker", 128, "a1");
    let continuum = Continuum::up(&sterna, &inventory("e2e-ahead", &services)).await.unwrap();
    continuum.services_up().await.unwrap();
    ticker::ready(&continuum, "a1", "ticker").await.unwrap();

    let report = migrate(&sterna, &continuum, "ticker", "b1").await;
    assert!(matches!(report.outcome, Outcome::Moved), "{report:?}");
    let (ahead, frozen) = (report.mib("synced"), report.mib("transferred"));
    println!("{ahead:.1} MiB ahead, {frozen:.2} MiB while frozen");
    assert!(ahead > 128.0 && frozen < 8.0, "{ahead} {frozen}");
    assert_eq!(report.forecast.expect("a move is predicted").learnt_from, 0);

    // It writes nothing, and yet it would stand still for longer than that.
    let too_long = ["ticker", "--to", "a1", "--max-downtime", "1ms"];
    let report = migrate_with(&sterna, &continuum, &too_long).await;
    let Outcome::RolledBack { reason } = &report.outcome else { panic!("{report:?}") };
    assert!(reason.contains("stand still") && reason.contains("1ms are allowed"), "{reason}");
    assert_eq!(millis(&report.frozen_in_vain), 0.0, "it was not frozen");

    // 128 MiB in at least two seconds.
    let slowly = ["ticker", "--to", "c1", "--memory", "while-frozen", "--bandwidth", "64MiB/s"];
    let report = migrate_with(&sterna, &continuum, &slowly).await;
    assert!(matches!(report.outcome, Outcome::Moved), "{report:?}");
    let (ahead, frozen) = (report.mib("synced"), report.mib("transferred"));
    assert!(ahead < 8.0 && frozen > 128.0, "{ahead} {frozen}");
    let downtime = millis(report.downtime.as_deref().expect("a move has a downtime"));
    assert!(downtime > 1900.0, "{downtime} ms: the limit was not kept to");

    let report = migrate(&sterna, &continuum, "ticker", "a1").await;
    assert!(matches!(report.outcome, Outcome::Moved), "{report:?}");
    assert!(
        ticker::longest_gap(&continuum, "a1", "ticker").await.unwrap() > Duration::ZERO,
        "the same process"
    );
    continuum.down().await.unwrap();
}

/// MiB that a node has sent.
async fn sent(node: &str) -> f64 {
    let counter = ["exec", node, "cat", "/sys/class/net/eth0/statistics/tx_bytes"];
    docker::docker(&counter).await.unwrap().trim().parse::<f64>().unwrap() / 1_048_576.0
}

/// Asks for a move over a link that breaks for a moment once so many MiB have crossed.
async fn moved_though_it_breaks(
    sterna: &Sterna,
    continuum: &Continuum,
    how: &[&str],
    from: &str,
    mib: f64,
) -> Report {
    let node = continuum.container(from);
    let before = sent(&node).await;
    let breaking = async {
        while sent(&node).await < before + mib {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for action in ["--insert", "--delete"] {
            let rule = ["OUTPUT", "--protocol", "tcp", "--dport", "7420", "--jump", "REJECT"];
            let reset = ["--reject-with", "tcp-reset"];
            let all = [&["exec", &node, "iptables", "--wait", action][..], &rule, &reset].concat();
            docker::docker(&all).await.unwrap();
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    };
    let breaking = tokio::time::timeout(Duration::from_secs(60), breaking);
    let (report, broke) = tokio::join!(migrate_with(sterna, continuum, how), breaking);
    broke.expect("so much crosses");
    assert!(matches!(report.outcome, Outcome::Moved), "{report:?}");
    report
}

#[tokio::test]
async fn a_link_that_breaks_for_a_moment_costs_what_was_on_its_way() {
    let sterna = Sterna::built().unwrap();
    let fill = r#"["sh", "-c", "head -c 100663296 /dev/urandom >/data/one && exec sleep infinity"]"#;
    let services =
        [ticker::service("ticker", 128, "a1"), service("files", fill, "volumes = [\"files-data:/data\"]")];
    let continuum = Continuum::up(&sterna, &inventory("e2e-breaks", &services.concat())).await.unwrap();
    continuum.services_up().await.unwrap();
    ticker::ready(&continuum, "a1", "ticker").await.unwrap();

    // Buffers at both ends hold some MiB, and those are lost.
    let limit = ["--bandwidth", "32MiB/s"];
    let how = [&["ticker", "--to", "b1"][..], &limit].concat();
    let report = moved_though_it_breaks(&sterna, &continuum, &how, "a1", 80.0).await;
    let (ahead, frozen) = (report.mib("synced"), report.mib("transferred"));
    println!("memory ahead: {ahead:.1} MiB, and {frozen:.2} MiB while frozen");
    assert!(ahead > 128.0 && ahead < 150.0 && frozen < 8.0, "{ahead} {frozen}");

    let how = [&["ticker", "--to", "c1", "--memory", "while-frozen"][..], &limit].concat();
    let report = moved_though_it_breaks(&sterna, &continuum, &how, "b1", 80.0).await;
    let frozen = report.mib("transferred");
    println!("memory while frozen: {frozen:.1} MiB");
    assert!(frozen > 128.0 && frozen < 150.0, "{frozen}");
    assert!(
        ticker::longest_gap(&continuum, "c1", "ticker").await.unwrap() > Duration::ZERO,
        "the same process"
    );

    let digest = ["sha256sum", "/data/one"];
    let before = continuum.exec("a1", "files", &digest).await.unwrap();
    let how = [&["files", "--to", "b1"][..], &limit].concat();
    let report = moved_though_it_breaks(&sterna, &continuum, &how, "a1", 60.0).await;
    let files = report.mib("synced");
    println!("files: {files:.1} MiB");
    assert!(files > 96.0 && files < 120.0, "{files}");
    assert_eq!(continuum.exec("b1", "files", &digest).await.unwrap(), before);
    continuum.down().await.unwrap();
}

/// PostgreSQL with its data in a named volume, run by its own user.
fn postgres() -> String {
    let command = r#"["sh", "-c", "mkdir -p /pg/data && chown -R postgres /pg && cd /pg && exec setpriv --reuid postgres --regid postgres --init-groups sh -c 'b=$(echo /usr/lib/postgresql/*/bin); $b/initdb -D /pg/data >/pg/initdb.log && exec $b/postgres -D /pg/data -k /tmp'"]"#;
    service("postgres", command, "volumes = [\"pgdata:/pg\"]")
}

async fn sql(continuum: &Continuum, node: &str, statement: &str) -> anyhow::Result<String> {
    let command =
        ["setpriv", "--reuid", "postgres", "--clear-groups", "psql", "-h", "/tmp", "-tA", "-c", statement];
    continuum.exec(node, "postgres", &command).await
}

async fn page(continuum: &Continuum, node: &str) -> String {
    let address = continuum.address(node).await.unwrap();
    reqwest::get(format!("http://{address}:8080/")).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn nginx_postgres_and_a_ticker_move_with_all_their_processes_and_files() {
    sterna_e2e_tls();
    let sterna = Sterna::built().unwrap();
    let nginx = r#"["sh", "-c", "sed -i 's/80 default_server/8080 default_server/' /etc/nginx/sites-enabled/default && echo arrived >/var/www/html/index.html && exec nginx -g 'daemon off;'"]"#;
    let services =
        [service("nginx", nginx, "ports = [\"8080/tcp\"]"), postgres(), ticker::service("ticker", 64, "a1")]
            .concat();
    let continuum = Continuum::up(&sterna, &inventory("e2e-many", &services)).await.unwrap();
    continuum.services_up().await.unwrap();

    assert_eq!(page(&continuum, "a1").await.trim(), "arrived");
    moved(&sterna, &continuum, "nginx", "b1").await;
    assert_eq!(page(&continuum, "b1").await.trim(), "arrived");
    let owners = continuum.exec("b1", "nginx", &["sh", "-c", "cat /proc/[0-9]*/comm | sort | uniq -c"]).await;
    assert!(owners.unwrap().lines().any(|line| line.trim_end().ends_with("nginx")));

    let mut tries = 0;
    while sql(&continuum, "a1", "create table t as select g as n from generate_series(1, 50000) g")
        .await
        .is_err()
    {
        tries += 1;
        assert!(tries < 100, "PostgreSQL does not come up");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let started = sql(&continuum, "a1", "select pg_postmaster_start_time()").await.unwrap();
    // Most of its memory is shared by its processes. It goes ahead, too.
    sql(
        &continuum,
        "a1",
        "create table large as select repeat(md5(g::text), 30) as t from generate_series(1, 90000) g",
    )
    .await
    .unwrap();
    let report = migrate(&sterna, &continuum, "postgres", "b1").await;
    assert!(matches!(report.outcome, Outcome::Moved), "{report:?}");
    let (ahead, frozen) = (report.mib("synced"), report.mib("transferred"));
    println!("postgres: {ahead:.1} MiB ahead, {frozen:.1} MiB while frozen");
    assert!(frozen < 32.0, "{frozen} MiB while frozen");
    moved(&sterna, &continuum, "postgres", "c1").await;
    assert_eq!(sql(&continuum, "c1", "select pg_postmaster_start_time()").await.unwrap(), started);
    assert_eq!(sql(&continuum, "c1", "select count(*), sum(n) from t").await.unwrap(), "50000|1250025000");
    sql(&continuum, "c1", "insert into t values (0); checkpoint").await.unwrap();
    assert_eq!(sql(&continuum, "c1", "select count(*) from t").await.unwrap(), "50001");

    // What the report calls downtime is never less than what the service itself can tell, and not much more.
    ticker::ready(&continuum, "a1", "ticker").await.unwrap();
    ticker::longest_gap(&continuum, "a1", "ticker").await.unwrap();
    let downtime = moved(&sterna, &continuum, "ticker", "b1").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let gap = ticker::longest_gap(&continuum, "b1", "ticker").await.unwrap().as_secs_f64() * 1e3;
    println!("ticker: reported {downtime:.0} ms, as the service saw it {gap:.0} ms");
    assert!(gap > 50.0, "a move of a live process can't go unseen: {gap} ms");
    assert!(gap <= downtime + 50.0, "the service stood still for {gap} ms, the report says {downtime} ms");
    continuum.down().await.unwrap();
}

fn sterna_e2e_tls() {
    // An error says that another test was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Start of process 1 of a service in clock ticks of the node: another process has another.
async fn started(continuum: &Continuum, node: &str) -> String {
    let stat = continuum.exec(node, "redis", &["cat", "/proc/1/stat"]).await.unwrap();
    stat.split_whitespace().nth(21).expect("a start time").to_owned()
}

#[tokio::test]
async fn a_move_that_can_t_be_made_leaves_the_same_process_running() {
    let sterna = Sterna::built().unwrap();
    let continuum = Continuum::up(&sterna, &inventory("e2e-back", &redis())).await.unwrap();
    continuum.services_up().await.unwrap();
    let addresses = continuum.addresses(PORT).await.unwrap();
    let dataset = Dataset::new(1000);
    dataset.load(addresses[0]).await.unwrap();
    let start = started(&continuum, "a1").await;

    // Nothing speaks against it, and a canary has gone the way: what breaks after that is found out only on the way.
    let (file, state) = (continuum.file().display().to_string(), continuum.state().display().to_string());
    let dry = ["migrate", "redis", "--to", "b1", "--dry-run", "--inventory", &file, "--state", &state];
    let dry = sterna.run_in(continuum.folder(), &[], &dry).await.unwrap();
    assert_eq!(dry.status.code(), Some(2), "{} {}", dry.stdout, dry.stderr);
    for word in ["nothing speaks against it", "predicted downtime", "canary               restored in"] {
        assert!(dry.stdout.contains(word), "no `{word}` in\n{}", dry.stdout);
    }
    println!("{}", dry.stdout);
    let a1 = continuum.container("a1");
    let list = ["exec", &a1, "docker", "ps", "-aq", "--filter", "label=sterna.canary"];
    assert_eq!(docker::docker(&list).await.unwrap(), "", "the canary leaves no container");

    // A CRIU that tells its version and can do nothing else: found out only when the source stands frozen.
    let b1 = continuum.container("b1");
    let broken = "mv /usr/sbin/criu /usr/sbin/criu.real; printf '%s\\n' '#!/bin/sh' \
                  'case $* in *--version*) exec /usr/sbin/criu.real --version;; esac; exit 1' >/usr/sbin/criu; \
                  chmod +x /usr/sbin/criu";
    docker::docker(&["exec", &b1, "sh", "-c", broken]).await.unwrap();
    let report = migrate(&sterna, &continuum, "redis", "b1").await;
    let Outcome::RolledBack { reason } = &report.outcome else { panic!("{report:?}") };
    println!("undone: {reason}; frozen for {}", report.frozen_in_vain);
    assert!(reason.contains("the restore failed"), "{reason}");
    assert!(millis(&report.frozen_in_vain) > 0.0);
    assert_eq!(continuum.runs_on("redis").await.unwrap(), Some("a1"));
    assert_eq!(started(&continuum, "a1").await, start);
    assert_eq!(dataset.differences(addresses[0], 5).await.unwrap(), Vec::<String>::new());
    let left = docker::docker(&["exec", &b1, "sh", "-c", "docker ps -aq; ls /dev/shm/sterna"]).await.unwrap();
    assert_eq!(left, "", "the destination keeps nothing");

    // Nothing on a node listens but the agent, behind TLS, and the engine's own name server on the services' loopback.
    let listening = docker::docker(&["exec", &b1, "ss", "-ltnH"]).await.unwrap();
    let open: Vec<&str> = listening.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    assert!(open.iter().any(|address| address.ends_with(":7420")), "{open:?}");
    assert!(open.iter().all(|address| address.ends_with(":7420") || address.starts_with("127.")), "{open:?}");

    // Found before anything is touched.
    docker::docker(&["exec", &b1, "docker", "create", "--name", "redis", "sterna-services:latest", "true"])
        .await
        .unwrap();
    let report = migrate(&sterna, &continuum, "redis", "b1").await;
    let Outcome::Refused { findings } = &report.outcome else { panic!("{report:?}") };
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!((finding.code.as_str(), finding.subject.as_str()), ("C301", "destination"));
    assert!(finding.what.contains("`redis`"), "{finding:?}");
    assert_eq!(millis(&report.frozen_in_vain), 0.0);

    // And the same service still moves where it can.
    moved(&sterna, &continuum, "redis", "c1").await;
    assert_eq!(dataset.differences(addresses[2], 5).await.unwrap(), Vec::<String>::new());
    continuum.down().await.unwrap();
}
