//! How much moving, and when it stops because it fails.

use super::file::{BreakerFile, BudgetFile};
use super::{At, Findings, Written};
use crate::policy::{Breaker, Budget};
use crate::quantity::Millis;

pub(super) fn budget(file: Option<&BudgetFile>, findings: &mut Findings) -> Budget {
    let default = BudgetFile::default();
    let file = file.unwrap_or(&default);
    let mut moves = |written: Option<&At<u32>>, when: &str| {
        let written = written?;
        if written.value == 0 {
            findings
                .error("P0025", written.span(), format!("a budget of 0 moves {when} allows no move"))
                .label("expected at least 1")
                .help("to see decisions without any move, write mode = \"observe\"");
        }
        Some(written.value)
    };
    let concurrent = moves(file.concurrent.as_ref(), "at one time").unwrap_or(1);
    let moves_per_hour = moves(file.moves_per_hour.as_ref(), "an hour");
    let moves_per_day = moves(file.moves_per_day.as_ref(), "a day");
    let moves_per_service_per_day = moves(file.moves_per_service_per_day.as_ref(), "of a service a day");
    let concurrent_per_site = moves(file.concurrent_per_site.as_ref(), "of a site at one time");
    let concurrent_per_link = moves(file.concurrent_per_link.as_ref(), "over a link at one time");
    let bytes_per_day = file.bytes_per_day.as_ref().and_then(|written| written.read_positive(findings));
    let bytes_per_link_per_day =
        file.bytes_per_link_per_day.as_ref().and_then(|written| written.read_positive(findings));
    if let (Some(hour), Some(day), Some(written)) = (moves_per_hour, moves_per_day, &file.moves_per_hour)
        && hour > day
    {
        findings
            .warning("W0007", written.span(), format!("{hour} moves an hour are never made"))
            .label(format!("without effect: moves_per_day is {day}"));
    }
    let parts = [
        ("concurrent_per_site", concurrent_per_site, &file.concurrent_per_site),
        ("concurrent_per_link", concurrent_per_link, &file.concurrent_per_link),
    ];
    for (key, part, written) in parts {
        if let (Some(part), Some(written)) = (part, written)
            && part > concurrent
        {
            findings
                .warning("W0009", written.span(), format!("{part} moves are never under way at one time"))
                .label(format!("{key} is without effect: concurrent is {concurrent}"));
        }
    }
    Budget {
        concurrent,
        concurrent_per_site,
        concurrent_per_link,
        moves_per_hour,
        moves_per_day,
        moves_per_service_per_day,
        bytes_per_day,
        bytes_per_link_per_day,
        downtime_per_day: file.downtime_per_day.as_ref().and_then(|written| written.read_positive(findings)),
    }
}

pub(super) fn breaker(file: Option<&BreakerFile>, findings: &mut Findings) -> Breaker {
    let mut breaker = Breaker::default();
    let Some(file) = file else { return breaker };
    breaker.failures = file.failures.as_ref().map_or(breaker.failures, |written| written.value);
    let mut read = |written: &Option<Written<Millis>>, default| {
        written.as_ref().and_then(|written| written.read_positive(findings)).unwrap_or(default)
    };
    breaker.within = read(&file.within, breaker.within);
    breaker.pause = read(&file.pause, breaker.pause);
    breaker
}
