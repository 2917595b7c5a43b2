//! What the cli says to files that are wrong and to parts that are absent: where, what, and what to do about it.

use std::path::{Path, PathBuf};

use sterna_e2e::process::Finished;
use sterna_e2e::sterna::Sterna;

const INVENTORY: &str = include_str!("../../../deploy/demo/inventory.toml");
const POLICY: &str = include_str!("../../../policies/presets/latency-first.toml");
/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

struct Desk {
    folder: tempfile::TempDir,
    sterna: Sterna,
}

impl Desk {
    /// A folder with a right inventory, policy and scenario.
    fn new() -> anyhow::Result<Self> {
        let desk = Self { folder: tempfile::tempdir()?, sterna: Sterna::built()? };
        desk.put("inventory.toml", INVENTORY)?;
        desk.put("policy.toml", POLICY)?;
        desk.put(
            "sterna.toml",
            &format!("inventory = \"inventory.toml\"\npolicy = \"policy.toml\"\nstate = \"state\"\nlisten = \"127.0.0.1:0\"\n[prometheus]\nurl = \"{NOWHERE}\"\ntimeout = \"2s\"\n"),
        )?;
        for file in ["commuters.toml", "commuters.inventory.toml"] {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../simulator/scenarios").join(file);
            desk.put(file, &std::fs::read_to_string(source)?)?;
        }
        Ok(desk)
    }

    fn put(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Rewrites one place of a file.
    fn spoil(&self, name: &str, from: &str, to: &str) -> anyhow::Result<()> {
        let path = self.folder.path().join(name);
        let text = std::fs::read_to_string(&path)?;
        anyhow::ensure!(text.contains(from), "{name} has no `{from}`");
        std::fs::write(path, text.replacen(from, to, 1))?;
        Ok(())
    }

    async fn run(&self, environment: &[(&str, &str)], arguments: &[&str]) -> anyhow::Result<Finished> {
        self.sterna.run_in(self.folder.path(), environment, arguments).await
    }

    /// Runs a command that must end with exit code 3, name the place, and say each of these.
    async fn refused(&self, arguments: &[&str], place: &str, says: &[&str]) -> anyhow::Result<()> {
        let finished = self.run(&[], arguments).await?;
        let said = format!("{}{}", finished.stdout, finished.stderr);
        anyhow::ensure!(
            finished.status.code() == Some(3),
            "{arguments:?} ended with {}:\n{said}",
            finished.status
        );
        for part in says.iter().chain([&place]) {
            anyhow::ensure!(said.contains(part), "{arguments:?} does not say `{part}`:\n{said}");
        }
        anyhow::ensure!(!said.contains("panicked"), "{said}");
        Ok(())
    }
}

#[tokio::test]
async fn a_malformed_inventory_is_refused_by_every_command_that_reads_one() {
    let desk = Desk::new().unwrap();
    desk.spoil("inventory.toml", "tier = \"cloud\"", "teir = \"cloud\"").unwrap();
    for arguments in [
        &["sites", "up", "inventory.toml"][..],
        &["sites", "status", "inventory.toml"],
        &["services", "up", "inventory.toml"],
        &["migrate", "redis", "--to", "south-1", "--inventory", "inventory.toml"],
        &["plan", "--config", "sterna.toml"],
        &["run", "--config", "sterna.toml"],
    ] {
        desk.refused(arguments, "inventory.toml:32:1", &["teir", "did you mean `tier`?"]).await.unwrap();
    }
}

#[tokio::test]
async fn a_contradictory_inventory_is_refused() {
    let desk = Desk::new().unwrap();
    desk.spoil("inventory.toml", "on = \"north-1\"", "on = \"nroth-1\"").unwrap();
    desk.spoil("inventory.toml", "idle = \"40W\", full = \"140W\"", "idle = \"240W\", full = \"140W\"")
        .unwrap();
    let says = ["nroth-1", "did you mean `north-1`?", "140W"];
    desk.refused(&["sites", "up", "inventory.toml"], "inventory.toml:73:6", &says).await.unwrap();
}

#[tokio::test]
async fn a_wrong_policy_is_refused() {
    let desk = Desk::new().unwrap();
    desk.spoil("policy.toml", "min_gain = \"20%\"", "min_gian = \"20%\"").unwrap();
    let line = POLICY.lines().position(|line| line.starts_with("min_gain")).unwrap() + 1;
    let place = format!("policy.toml:{line}:1");
    for arguments in [
        &["run", "--config", "sterna.toml"][..],
        &["policy", "check", "policy.toml"],
        &["simulate", "commuters.toml", "--policy", "policy.toml"],
    ] {
        desk.refused(arguments, &place, &["did you mean `min_gain`?"]).await.unwrap();
    }

    let desk = Desk::new().unwrap();
    desk.spoil("policy.toml", "satisfied_at = \"10ms\"", "satisfied_at = \"10W\"").unwrap();
    let line = POLICY.lines().position(|line| line.starts_with("satisfied_at")).unwrap() + 1;
    let place = format!("policy.toml:{line}:16");
    desk.refused(&["policy", "check", "policy.toml"], &place, &["10W", "ms"]).await.unwrap();
}

#[tokio::test]
async fn a_wrong_scenario_is_refused() {
    let desk = Desk::new().unwrap();
    let scenario = std::fs::read_to_string(desk.folder.path().join("commuters.toml")).unwrap();
    let line = scenario.lines().position(|line| line.starts_with("duration")).unwrap() + 1;
    desk.spoil("commuters.toml", "duration = \"1d\"", "duraton = \"1d\"").unwrap();
    let arguments = ["simulate", "commuters.toml", "--policy", "policy.toml"];
    let place = format!("commuters.toml:{line}:1");
    desk.refused(&arguments, &place, &["did you mean `duration`?"]).await.unwrap();
}

#[tokio::test]
async fn without_docker_there_is_an_instruction() {
    let desk = Desk::new().unwrap();
    let absent = [("DOCKER_HOST", "unix:///nonexistent/docker.sock")];
    let finished = desk.run(&absent, &["sites", "up", "inventory.toml", "--state", "state"]).await.unwrap();
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    for part in ["/nonexistent/docker.sock", "DOCKER_HOST"] {
        assert!(finished.stderr.contains(part), "does not say `{part}`: {}", finished.stderr);
    }
}

#[tokio::test]
async fn a_cluster_out_of_reach_is_said_in_our_own_words_alone() {
    let desk = Desk::new().unwrap();
    let pod = "memory = \"4GiB\"\nkubernetes = { namespace = \"sterna\" }";
    let inventory = format!(
        "schema_version = 1\nname = \"away\"\n[[site]]\nname = \"a\"\ntier = \"edge\"\nregion = \"eu\"\n\
         price = {{ node = \"0.1USD/h\" }}\npower = {{ idle = \"5W\", full = \"20W\" }}\n\
         [[site.node]]\nname = \"a1\"\ncpu = \"2\"\n{pod}\n[[site.node]]\nname = \"a2\"\ncpu = \"2\"\n{pod}\n\
         [[service]]\nname = \"redis\"\ncpu = \"0.1\"\nmemory = \"256MiB\"\n"
    );
    desk.put("away.toml", &inventory).unwrap();
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: a, cluster: {{server: {NOWHERE}}}}}]\n\
         users: [{{name: a, user: {{token: x}}}}]\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n"
    );
    let kubeconfig = desk.put("kubeconfig", &kubeconfig).unwrap().display().to_string();
    let migrate = ["migrate", "redis", "--to", "a2", "--inventory", "away.toml", "--state", "state"];
    let finished = desk.run(&[("KUBECONFIG", &kubeconfig)], &migrate).await.unwrap();
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert!(!finished.status.success(), "{said}");
    for part in ["looking for pods in namespace sterna", "`kubectl cluster-info`"] {
        assert_eq!(said.matches(part).count(), 1, "does not say `{part}` once:\n{said}");
    }
    assert!(!said.contains(" ERROR "), "a library speaks in between:\n{said}");
}

#[tokio::test]
async fn without_prometheus_nothing_moves_and_the_reason_is_said() {
    let desk = Desk::new().unwrap();
    desk.spoil("policy.toml", "mode = \"recommend\"", "mode = \"auto\"").unwrap();
    let finished = desk.run(&[], &["run", "--config", "sterna.toml", "--once"]).await.unwrap();
    let said = format!("{}{}", finished.stdout, finished.stderr);
    for part in ["held", "user_latency: Prometheus at http://127.0.0.1:1 can't be reached", "prometheus.url"]
    {
        assert!(said.contains(part), "does not say `{part}`:\n{said}");
    }
    assert!(!said.contains("moving"), "{said}");
}

#[tokio::test]
async fn the_policy_of_the_readme_is_right() {
    let desk = Desk::new().unwrap();
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (policy, _) = rest.split_once("```").unwrap();
    desk.put("first.toml", policy).unwrap();
    let finished = desk.run(&[], &["policy", "check", "first.toml"]).await.unwrap();
    assert_eq!(finished.status.code(), Some(0), "{}{}", finished.stdout, finished.stderr);
}
