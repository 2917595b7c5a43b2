//! `sterna report`: what moving brought, predicted against measured.

use std::process::ExitCode;

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use jiff::Timestamp;
use sterna_daemon::history::summary::{Change, Summary, Told, Worth};
use sterna_policies::quantity::Millis;

use crate::history::{of_bytes, of_time};
use crate::run::say;
use crate::service::{Of, Service, since, time};
use crate::wiring::{Output, runtime};

/// Arguments of `sterna report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How far to look back: a span such as `7d`, or an instant.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = since)]
    since: Timestamp,
    #[command(flatten)]
    of: Of,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let service = Service::open(&args.of.config)?;
    runtime()?.block_on(async {
        let summary = service.history()?.summary(args.since, Timestamp::now()).await?;
        match args.of.output {
            Output::Json => say(&serde_json::to_string_pretty(&summary)?),
            Output::Table => say(text(&summary).trim_end()),
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn text(summary: &Summary) -> String {
    let span = long(Millis::from_micros(
        i64::try_from(summary.until.duration_since(summary.since).as_nanos()).unwrap_or(i64::MAX),
    ));
    let mut lines = vec![format!(
        "in {span}: {}, {}, {} downtime",
        counted(summary.moved, "move"),
        changed(&summary.change),
        of_time(Some(summary.downtime))
    )];
    if summary.moved > 0 {
        lines.push(format!(
            "downtime: {} predicted, {} measured; {} sent",
            of_time(Some(summary.downtime_predicted)),
            of_time(Some(summary.downtime)),
            summary.bytes
        ));
        lines.push(known(&summary.change));
    }
    for (count, what) in [
        (summary.rolled_back, "undone"),
        (summary.refused, "refused before anything was touched"),
        (summary.open, "whose end is not known yet"),
    ] {
        if count > 0 {
            lines.push(format!("{} {what}", counted(count, "migration")));
        }
    }
    let recommended = &summary.recommended;
    if recommended.moves > 0 {
        lines.push(format!(
            "not carried out, as the policy's mode was: {} would have been made, {}, {} downtime, {} sent (predicted, had each \
             been made when it was first recommended)",
            counted(recommended.moves, "move"),
            changed(&recommended.change),
            of_time(Some(recommended.downtime)),
            recommended.bytes
        ));
    }
    lines.push(format!("{} decisions looked at", summary.decisions));
    if !summary.migrations.is_empty() {
        lines.push(String::new());
        lines.push(table(&summary.migrations));
        lines.push(
            "predicted / measured; latency, cost and power: when decided -> some minutes after the move"
                .to_owned(),
        );
    }
    lines.join("\n")
}

fn counted(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What is different; less has a minus.
fn changed(change: &Change) -> String {
    let kwh = change.energy.as_f64() / 1e3;
    let mut text = format!("{kwh:+.3} kWh, {:+.2} USD", change.cost.as_f64());
    if let Some(carbon) = change.carbon {
        text.push_str(&format!(", {:+.1} g CO2", carbon.as_f64()));
    }
    if let Some(latency) = change.user_latency {
        text.push_str(&format!(", {:+.1} ms on average", latency.as_f64()));
    }
    text
}

fn known(change: &Change) -> String {
    if change.known_for == Millis::ZERO {
        return "what the moves changed is not known: no decision after them has seen it".to_owned();
    }
    format!("seen for {} of the time after the moves, added up over services", long(change.known_for))
}

/// A long time in the unit that suits it.
fn long(time: Millis) -> String {
    let seconds = time.as_f64() / 1e3;
    match seconds {
        s if s >= 2.0 * 86_400.0 => format!("{:.0} days", s / 86_400.0),
        s if s >= 7200.0 => format!("{:.0} hours", s / 3600.0),
        s if s >= 120.0 => format!("{:.0} minutes", s / 60.0),
        s => format!("{s:.0} seconds"),
    }
}

fn table(migrations: &[Told]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        "ended (UTC)",
        "service",
        "move",
        "outcome",
        "downtime",
        "took",
        "sent",
        "latency",
        "cost/h",
        "power",
    ]);
    for told in migrations {
        let one = &told.migration;
        let measured = one.end.as_ref().map(|end| end.measured);
        let both = |predicted: String, measured: String| format!("{predicted} / {measured}");
        let pair = |show: &dyn Fn(&Worth) -> String| {
            let shown = |worth: &Option<Worth>| worth.as_ref().map_or_else(|| "-".to_owned(), show);
            format!("{} -> {}", shown(&told.before), shown(&told.after))
        };
        let latency =
            |worth: &Worth| worth.user_latency.map_or_else(|| "-".to_owned(), |it| format!("{it:.1}"));
        table.add_row([
            one.end.as_ref().map_or_else(|| "-".to_owned(), |end| time(end.at)),
            one.service.clone(),
            format!("{} -> {}", one.from, one.to),
            one.end.as_ref().map_or_else(|| "not known yet".to_owned(), |end| end.outcome.clone()),
            both(of_time(one.predicted.downtime), of_time(measured.and_then(|cost| cost.downtime))),
            both(of_time(one.predicted.duration), of_time(measured.and_then(|cost| cost.duration))),
            both(of_bytes(one.predicted.bytes), of_bytes(measured.and_then(|cost| cost.bytes))),
            pair(&latency),
            pair(&|worth| format!("{:.4}", worth.cost_rate.as_f64())),
            pair(&|worth| format!("{:.1}", worth.power)),
        ]);
    }
    table.to_string()
}
