//! What `sterna migrate --dry-run` prints.

use std::process::ExitCode;

use serde::Serialize;
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_executor::migration::order::Order;
use sterna_executor::node::assessment::Assessment;
use sterna_policies::quantity::Bytes;

use crate::exit::CHANGES;
use crate::wiring::Output;

/// The whole answer, for programs.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    service: &'a ServiceName,
    from: &'a NodeName,
    to: &'a NodeName,
    /// `would-move`, `refused` or `already-there`.
    verdict: &'static str,
    #[serde(flatten)]
    assessment: Option<&'a Assessment>,
}

/// Prints what both ends say, and gives the exit code that goes with it.
pub fn show(order: &Order, assessment: &Assessment, output: Output) -> anyhow::Result<ExitCode> {
    let moves = assessment.findings.is_empty();
    let answer = Answer {
        service: &order.service,
        from: &order.from,
        to: &order.to,
        verdict: if moves { "would-move" } else { "refused" },
        assessment: Some(assessment),
    };
    print(&answer, &text(order, assessment), output)?;
    Ok(if moves { ExitCode::from(CHANGES) } else { ExitCode::FAILURE })
}

/// Prints that there is nothing to do.
pub fn already_there(service: &ServiceName, node: &NodeName, output: Output) -> anyhow::Result<ExitCode> {
    let answer = Answer { service, from: node, to: node, verdict: "already-there", assessment: None };
    print(&answer, &format!("`{service}` runs on `{node}` already"), output)?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the answer is the command's result")]
fn print(answer: &Answer<'_>, text: &str, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(answer)?);
    } else {
        println!("{text}");
    }
    Ok(())
}

fn text(order: &Order, assessment: &Assessment) -> String {
    let Order { service, from, to, .. } = order;
    let mut lines = Vec::new();
    if assessment.findings.is_empty() {
        lines.push(format!("`{service}` would move from `{from}` to `{to}`; nothing speaks against it"));
    } else {
        lines.push(format!("`{service}` can't move from `{from}` to `{to}`:"));
        lines.extend(assessment.findings.iter().map(|finding| format!("  {finding}")));
    }
    let load = &assessment.load;
    if let Some(forecast) = &assessment.forecast {
        let cost = &forecast.cost;
        lines.push(format!("  predicted downtime   {:.0}", cost.downtime));
        lines.push(format!("  predicted duration   {:.0}", cost.duration));
        let image = if load.image == Bytes::ZERO {
            "image is there".to_owned()
        } else {
            format!("image {}", load.image)
        };
        let parts = format!("memory {}, files {}, {image}", load.memory, load.files);
        lines.push(format!("  predicted bytes      {} ({parts})", cost.bytes));
        lines.push(match forecast.learnt_from {
            0 => {
                "  learnt from          measurements on other nodes: none moved between these yet".to_owned()
            }
            count => format!("  learnt from          the last {count} moves from `{from}` to `{to}`"),
        });
    }
    if let Some(canary) = &assessment.canary {
        let how = if canary.trouble.is_none() { "restored" } else { "failed" };
        lines.push(format!("  canary               {how} in {:.0}, {:.0} ago", canary.took, canary.age));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use sterna_executor::migration::convergence::Rounds;
    use sterna_executor::migration::finding::{Code, Finding, Subject};
    use sterna_executor::migration::forecast::{Load, predict};
    use sterna_executor::migration::order::MigrationId;
    use sterna_policies::policy::{Memory, Method};

    use super::*;

    fn order() -> Order {
        Order {
            id: MigrationId::new(),
            service: "redis".into(),
            from: "a".into(),
            to: "b".into(),
            from_address: "127.0.0.1:1".into(),
            to_address: "127.0.0.1:2".into(),
            method: Method::Checkpoint,
            memory: Memory::Ahead,
            max_downtime: None,
            bandwidth: None,
            deadline: "10m".parse().unwrap(),
            freeze_lease: "30s".parse().unwrap(),
            predicted: None,
        }
    }

    fn assessment(findings: Vec<Finding>) -> Assessment {
        let load = Load { memory: Bytes::from_mib(10), ..Load::default() };
        let forecast = findings.is_empty().then(|| predict(&"redis".into(), load, &[], &Rounds::default()));
        Assessment { findings, load, has_image: Some(true), canary: None, forecast }
    }

    #[test]
    fn a_move_that_can_be_made_is_told_with_its_price() {
        let told = text(&order(), &assessment(vec![]));
        for word in ["would move from `a` to `b`", "predicted downtime", "memory 10.0MiB", "image is there"] {
            assert!(told.contains(word), "{word}:\n{told}");
        }
    }

    #[test]
    fn a_refusal_is_told_with_code_and_remedy() {
        let finding = Finding::new(Code::Terminal, Subject::Service, "it has a terminal");
        let told = text(&order(), &assessment(vec![finding]));
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[0], "`redis` can't move from `a` to `b`:");
        assert!(lines[1].contains("C003 service: it has a terminal; create it without"), "{told}");
        assert_eq!(lines.len(), 2, "no price for what can't be had");
    }
}
