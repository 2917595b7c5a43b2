//! What can't be moved is refused by the agent before anything is touched, with the reason, and goes on as if nothing had been
//! asked. The containers are made by hand, as somebody would who does not know what Sterna can't move.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends at the first surprise")]

use sterna_e2e::continuum::Continuum;
use sterna_e2e::docker;
use sterna_e2e::inventory::{NODES, Service, three_sites};
use sterna_e2e::sterna::Sterna;

const IMAGE: &str = "sterna-services:latest";
const SLEEPS: &str = "$| = 1; print qq(ready\\n); sleep 1 while 1";

/// A container that must be refused.
struct Case {
    name: &'static str,
    /// Of `docker run`.
    options: &'static [&'static str],
    /// In Perl, before it says that it is ready.
    does: &'static str,
    /// The code of the finding, and words of it.
    code: &'static str,
    says: &'static str,
}

const CASES: [Case; 7] = [
    Case { name: "tty", options: &["--tty"], does: "", code: "C003", says: "terminal" },
    Case { name: "rm", options: &["--rm"], does: "", code: "C004", says: "--rm" },
    Case { name: "device", options: &["--device", "/dev/net/tun"], does: "", code: "C006", says: "devices" },
    Case {
        name: "bind",
        options: &["--volume", "/etc:/host"],
        does: "",
        code: "C009",
        says: "/host is mounted",
    },
    Case {
        name: "io-uring",
        // The engine's own profile forbids io_uring; some lift that for speed.
        options: &["--security-opt", "seccomp=unconfined"],
        does: "my $p = pack('x120'); syscall(425, 4, $p) >= 0 or die $!;",
        code: "C011",
        says: "`perl` holds an io_uring",
    },
    Case {
        name: "privileges",
        options: &[],
        does: "$( = 65534; $) = '65534 65534'; $< = $> = 65534; $> == 65534 or die;",
        code: "C024",
        says: "gave up its privileges",
    },
    Case { name: "port", options: &["--publish", "9000:9000"], does: "", code: "C302", says: "9000/tcp" },
];

/// Runs the engine's client on a node.
async fn engine(continuum: &Continuum, node: &str, arguments: &[&str]) -> String {
    let container = continuum.container(node);
    docker::docker(&[&["exec", &container, "docker"], arguments].concat()).await.unwrap()
}

/// Makes a service by hand.
async fn run(continuum: &Continuum, node: &str, name: &str, options: &[&str], does: &str) {
    let label = format!("sterna.service={name}");
    let program = format!("{does} {SLEEPS}");
    let head = ["run", "--detach", "--name", name, "--label", &label];
    let tail = [IMAGE, "perl", "-e", &program];
    engine(continuum, node, &[&head[..], options, &tail[..]].concat()).await;
    for _ in 0..100 {
        if engine(continuum, node, &["logs", name]).await.contains("ready") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{name} does not get ready: {}", engine(continuum, node, &["logs", name]).await);
}

/// What tells this life of a container from another, and running from frozen.
async fn life(continuum: &Continuum, node: &str, name: &str) -> String {
    let format = "{{.Id}} {{.State.Status}} {{.State.Paused}} {{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}} \
                  {{.HostConfig.RestartPolicy.Name}}";
    engine(continuum, node, &["inspect", "--format", format, name]).await
}

#[tokio::test]
async fn what_can_t_be_moved_is_refused_with_the_reason_and_goes_on_untouched() {
    let sterna = Sterna::built().unwrap();
    // The nodes get the image with a service of the inventory; that one is like the others, but for what they can't.
    let plain = Service::new("plain", IMAGE, &["perl", "-e", SLEEPS]).table(NODES[0]).unwrap();
    let continuum = Continuum::up(&sterna, &three_sites("e2e-refusals", &plain)).await.unwrap();
    continuum.services_up().await.unwrap();
    let [here, there, _] = NODES;
    continuum.migrate("plain", there).await.unwrap();
    run(&continuum, there, "taken", &["--publish", "9000:9000"], "").await;
    let before = engine(&continuum, there, &["ps", "--all", "--quiet"]).await;

    let (file, state) = (continuum.file().display().to_string(), continuum.state().display().to_string());
    let mut wrong = Vec::new();
    for case in CASES {
        run(&continuum, here, case.name, case.options, case.does).await;
        let alive = life(&continuum, here, case.name).await;
        let order = [
            "migrate",
            case.name,
            "--to",
            there,
            "--output",
            "json",
            "--inventory",
            &file,
            "--state",
            &state,
        ];
        let finished = sterna.run_in(continuum.folder(), &[], &order).await.unwrap();
        let report: serde_json::Value = serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{}: no report ({error}): {}", case.name, finished.stderr));
        println!("{}: {}", case.name, report["outcome"]);
        let findings = report["outcome"]["findings"].as_array().cloned().unwrap_or_default();
        let named = findings.iter().any(|finding| {
            finding["code"] == case.code && finding["what"].as_str().unwrap_or_default().contains(case.says)
        });
        let frozen =
            report["frozen_in_vain"].as_str().and_then(|time| time.strip_suffix("ms")?.parse::<f64>().ok());
        let untouched = frozen == Some(0.0);
        if report["outcome"]["outcome"] != "refused" || !named || !untouched {
            wrong.push(format!("{} is not refused for {}: {report}", case.name, case.code));
        }
        let now = life(&continuum, here, case.name).await;
        if now != alive {
            wrong.push(format!("{} was touched: {now}, it was {alive}", case.name));
        }
        engine(&continuum, here, &["rm", "--force", case.name]).await;
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(
        engine(&continuum, there, &["ps", "--all", "--quiet"]).await,
        before,
        "what is there was touched"
    );
    continuum.down().await.unwrap();
}
