//! When to look, what must be the matter, and what keeps services from moving to and fro.

use std::ops::Range;

use super::file::{ConditionFile, HysteresisFile, TriggerFile};
use super::objective::level;
use super::policy::{MINUTE, SECOND, WHOLE, spoken};
use super::{At, Findings};
use crate::policy::{Condition, Hysteresis, Metric, Mode, Trigger};
use crate::quantity::{Millis, Percent};

const DEFAULT_INTERVAL: Millis = Millis::from_micros(30 * SECOND);
const DEFAULT_SETTLE: Millis = Millis::from_micros(MINUTE);
const DEFAULT_MIN_GAIN: Percent = Percent::from_micros(10_000_000);
const DEFAULT_MIN_RESIDENCY: Millis = Millis::from_micros(10 * MINUTE);
const DEFAULT_COOLDOWN: Millis = Millis::from_micros(5 * MINUTE);
const DEFAULT_PAYBACK_WITHIN: Millis = Millis::from_micros(24 * 60 * MINUTE);
const DEFAULT_NO_RETURN_WITHIN: Millis = Millis::from_micros(30 * MINUTE);

pub(super) fn trigger(file: Option<&TriggerFile>, findings: &mut Findings) -> Trigger {
    let written = file.and_then(|trigger| trigger.interval.as_ref());
    let interval = written.and_then(|written| written.read_positive(findings)).unwrap_or(DEFAULT_INTERVAL);
    let any = file.and_then(|trigger| trigger.any.as_ref()).map(|list| conditions(list, findings));
    let settle = file.and_then(|trigger| trigger.settle.as_ref());
    let settle = settle.and_then(|written| written.read_unsigned(findings)).unwrap_or(DEFAULT_SETTLE);
    Trigger { interval, settle, any }
}

fn conditions(list: &[At<ConditionFile>], findings: &mut Findings) -> Vec<Condition> {
    let mut any: Vec<(Condition, Range<usize>)> = Vec::new();
    for written in list {
        let Some(condition) = condition(written, findings) else { continue };
        let alike = |other: &Condition| other.metric == condition.metric && other.above == condition.above;
        if let Some((_, first)) = any.iter().find(|(other, _)| alike(other)) {
            findings
                .warning("W0006", written.span(), format!("`{}` is listed twice", condition.metric.name()))
                .label("with the same `above`: the one that lasts shorter decides")
                .also(first.clone(), "first here");
        }
        any.push((condition, written.span()));
    }
    any.into_iter().map(|(condition, _)| condition).collect()
}

fn condition(file: &At<ConditionFile>, findings: &mut Findings) -> Option<Condition> {
    if file.metric.value == Metric::CpuUse {
        findings
            .error("P0003", file.metric.span(), "`cpu_use` can't be a condition of a trigger")
            .label("only an input to the power model")
            .help("did you mean `power`?");
        return None;
    }
    let lasts = file.lasts.as_ref().and_then(|written| written.read_unsigned(findings));
    let above = level(&file.metric, &file.above, findings)?;
    Some(Condition { metric: file.metric.value, above, lasts: lasts.unwrap_or_default() })
}

pub(super) fn hysteresis(
    file: Option<&HysteresisFile>,
    mode: Mode,
    trigger: &Trigger,
    findings: &mut Findings,
) -> Hysteresis {
    let default = HysteresisFile::default();
    let file = file.unwrap_or(&default);
    let min_gain = file.min_gain.as_ref().and_then(|written| {
        let value = written.read_unsigned(findings)?;
        if value > WHOLE {
            findings
                .error("P0023", written.span(), format!("no move can gain {value}"))
                .label("expected at most 100%: the gain is a share of the value now")
                .help("to see decisions without any move, write mode = \"observe\"");
        }
        Some(value)
    });
    let min_residency = file.min_residency.as_ref().and_then(|written| written.read_unsigned(findings));
    let cooldown = file.cooldown.as_ref().and_then(|written| written.read_unsigned(findings));
    let payback = file.payback_within.as_ref().and_then(|written| written.read_positive(findings));
    let gain_lasts = file.gain_lasts.as_ref().and_then(|written| written.read_unsigned(findings));
    let regret = file.regret.as_ref().and_then(|written| written.read_unsigned(findings));
    let no_return = file.no_return_within.as_ref().and_then(|written| written.read_unsigned(findings));
    let hysteresis = Hysteresis {
        min_gain: min_gain.unwrap_or(DEFAULT_MIN_GAIN),
        min_residency: min_residency.unwrap_or(DEFAULT_MIN_RESIDENCY),
        cooldown: cooldown.unwrap_or(DEFAULT_COOLDOWN),
        payback_within: payback.unwrap_or(DEFAULT_PAYBACK_WITHIN),
        gain_lasts: gain_lasts.unwrap_or_default(),
        regret: regret.unwrap_or_default(),
        no_return_within: no_return.unwrap_or(DEFAULT_NO_RETURN_WITHIN),
    };
    if let Some(written) = &file.min_residency {
        let Hysteresis { min_residency: rest, cooldown, gain_lasts, no_return_within, .. } = hysteresis;
        let spans = [rest, cooldown, gain_lasts, no_return_within];
        let shares = [hysteresis.min_gain, hysteresis.regret];
        let nothing = spans.iter().all(|span| *span == Millis::ZERO)
            && shares.iter().all(|share| *share == Percent::ZERO)
            && trigger.any.is_none();
        if mode == Mode::Auto && nothing {
            findings
                .error(
                    "P0024",
                    written.span(),
                    "in mode `auto` nothing keeps services from moving to and fro",
                )
                .label("`min_gain`, `min_residency`, `cooldown`, `no_return_within`, `gain_lasts` and `regret` are all zero")
                .help("give at least one of them, such as min_gain = \"10%\"");
        } else if min_residency
            .is_some_and(|residency| Millis::ZERO < residency && residency < trigger.interval)
        {
            let message =
                format!("a residency of {} ends before the next look", spoken(hysteresis.min_residency));
            findings
                .warning("W0005", written.span(), message)
                .label(format!("without effect: looks are {} apart", spoken(trigger.interval)));
        }
    }
    hysteresis
}
