//! `sterna status`: how things stand.

use std::process::ExitCode;

use anyhow::Context;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use sterna_core::difference::Difference;
use sterna_daemon::api::status;
use sterna_daemon::api::view::{Directed, RefusedFile, Status};

use crate::run::say;
use crate::service::{Of, Service, time};
use crate::wiring::{Output, runtime};

/// Arguments of `sterna status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    of: Of,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let service = Service::open(&args.of.config)?;
    runtime()?.block_on(async {
        let history = service.history()?;
        let standing = service.standing(&history).await?;
        let standing =
            standing.context("the scheduler has decided nothing yet; ask again after its first look")?;
        let (health, refused) = service.live().await.map(|live| (live.health, live.refused)).unzip();
        let mut status = status::status(&history, &standing, health).await?;
        status.refused = refused.unwrap_or_default();
        match args.of.output {
            Output::Json => say(&serde_json::to_string_pretty(&status)?),
            Output::Table => say(text(&status).trim_end()),
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn text(status: &Status) -> String {
    let mut lines = vec![format!("continuum  {}", status.continuum)];
    lines.push(match &status.health {
        None => "scheduler  does not run; what follows is what it saw last".to_owned(),
        Some(health) if health.ready => "scheduler  runs".to_owned(),
        Some(health) => {
            format!("scheduler  runs, but: {}", health.reason.as_deref().unwrap_or("it is not ready"))
        }
    });
    lines.extend(status.refused.iter().flat_map(refused));
    for one in &status.policies {
        lines.push(format!("policy     {}: mode {}", one.policy, one.mode));
        if let Some(decision) = &one.decision {
            lines.push(format!("decision   {} at {}: {}", decision.id, time(decision.at), decision.verdict));
            lines.extend(decision.notes.iter().map(|note| format!("           note: {note}")));
        }
    }
    for one in &status.directives {
        lines.push(format!("in force   {}", directive(one)));
    }
    for waiting in status.approvals.iter().filter(|one| one.proposal.expires > jiff::Timestamp::now()) {
        let id = waiting.proposal.id;
        let expires = time(waiting.proposal.expires);
        lines.push(format!("waits      plan {id} until {expires}: `sterna approve` shows it"));
    }
    for one in &status.under_way {
        lines.push(format!(
            "under way  {} {} -> {} since {}",
            one.service,
            one.from,
            one.to,
            time(one.ordered)
        ));
    }
    let mut nodes = Table::new();
    nodes.load_style(UTF8_HORIZONTAL_ONLY).set_header(["node", "site", "state", "services"]);
    for node in &status.nodes {
        let state = match (node.answers, node.drained, node.cordoned) {
            (Some(false), ..) => "does not answer",
            (_, true, _) => "drained",
            (_, _, true) => "cordoned",
            (Some(true), ..) => "answers",
            (None, ..) => "",
        };
        let on = |one: &&sterna_daemon::api::view::ServiceView| one.node.as_ref() == Some(&node.node);
        let services = status.services.iter().filter(on).map(|one| match one.opted_out {
            true => format!("{} (stays)", one.service),
            false => one.service.clone(),
        });
        let services = services.collect::<Vec<_>>().join(", ");
        nodes.add_row([node.node.clone(), node.site.clone(), state.to_owned(), services]);
    }
    lines.push(nodes.to_string());
    let lost: Vec<&str> =
        status.services.iter().filter(|one| one.node.is_none()).map(|one| one.service.as_str()).collect();
    if !lost.is_empty() {
        lines.push(format!("not found  {}", lost.join(", ")));
    }
    lines.join("\n")
}

/// A file that is refused, and what it would change.
fn refused(one: &RefusedFile) -> Vec<String> {
    let mut lines = vec![format!(
        "not taken  the {} as it is since {}; what it said before is in force",
        one.file,
        time(one.at)
    )];
    lines.extend(one.reason.lines().map(|line| format!("           {line}")));
    if let Some(written) = &one.written {
        let differs = written.places.iter().map(|place| Difference {
            path: place.path.clone(),
            old: place.old.clone(),
            new: place.new.clone(),
        });
        lines.extend(differs.map(|place| format!("           differs: {place}")));
        lines.extend((written.more > 0).then(|| format!("           and {} more", written.more)));
    }
    lines
}

/// A directive in one line.
pub fn directive(one: &Directed) -> String {
    let place = [("node", &one.node), ("site", &one.site), ("service", &one.service)];
    let place = place.iter().find_map(|(what, name)| name.as_ref().map(|name| format!(" of {what} {name}")));
    let reason = one.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{}{} by {} since {}{reason}", one.directive, place.unwrap_or_default(), one.by, time(one.at))
}
