//! The variants of a policy: a file names keys of it, and the values that each is tried with.

use std::collections::BTreeSet;

use sterna_policies::diagnose::Report;
use sterna_policies::load::{At, Findings, Invalid, Loaded, policy, schema_version, toml_document};
use sterna_policies::policy::Policy;
use toml::{Table, Value};

use super::file::{Any, SweepFile};
use super::measure::Measure;

/// The format that this version reads.
const SCHEMA_VERSION: u32 = 1;
/// More variants than anybody would wait for.
const MOST: u64 = 10_000;

/// What a sweep file asks for.
#[derive(Debug, Clone)]
pub struct Grid {
    /// The variants, in the order of the file: the last key's value changes first.
    pub variants: Vec<Variant>,
    /// What the front is over.
    pub objectives: Vec<Measure>,
}

/// Keys of a policy, and what they are set to, as a sweep file has them.
pub type Settings = Vec<(String, String)>;

/// A policy with some of its keys set anew.
#[derive(Debug, Clone)]
pub struct Variant {
    /// The policy.
    pub policy: Policy,
    /// The keys, and what they are set to, as the file has it.
    pub settings: Settings,
}

/// A key of the file, with its values.
struct Axis<'a> {
    key: &'a At<String>,
    values: &'a [At<Any>],
}

/// Reads a sweep over a policy, given as the text of its file, which is in order. `seed` draws variants where not all are asked for.
///
/// # Errors
/// All that is wrong with it: its form, keys that policies don't have, values that they don't take, and variants whose parts
/// contradict each other.
pub fn load(file: &str, text: &str, base: &str, seed: u64) -> Result<(Grid, Report), Invalid> {
    let written: SweepFile = toml_document(file, text)?;
    let mut findings = Findings::new(file, text);
    schema_version(&written.schema_version, SCHEMA_VERSION, &mut findings);
    let mut axes: Vec<Axis<'_>> =
        written.grid.value.iter().map(|(key, values)| Axis { key, values: &values.value }).collect();
    axes.sort_by_key(|axis| axis.key.span.start);
    if axes.is_empty() {
        findings
            .error("S0031", written.grid.span(), "there is nothing to vary")
            .label("expected keys of the policy")
            .help("write the key with its values, such as \"hysteresis.min_gain\" = [\"5%\", \"10%\"]");
    }
    let objectives = objectives(written.objectives.as_ref(), &mut findings);
    // It was read before, so it is TOML.
    let base: Table = base.parse().unwrap_or_default();
    for axis in &axes {
        each_value(axis, &base, &mut findings);
    }
    let mut findings = findings.refuse_errors()?;
    let all = axes.iter().fold(1u64, |all, axis| all.saturating_mul(axis.values.len() as u64));
    let numbers = chosen(&written, all, seed, &mut findings);
    let mut variants = Vec::new();
    for number in numbers {
        let picked = picked(&axes, number);
        match variant(&base, &picked) {
            Ok(policy) => variants.push(Variant { policy, settings: settings(&picked) }),
            Err(refused) => {
                let span = picked.last().map_or(0..0, |(_, value)| value.span());
                let said: Vec<String> = settings(&picked).iter().map(|(k, v)| format!("{k} = {v}")).collect();
                findings
                    .error("S0034", span, format!("{} can't go together: {}", said.join(", "), refused.0))
                    .label("each would do without the others");
                break;
            }
        }
    }
    let Loaded { value, warnings } = findings.finish(Grid { variants, objectives })?;
    Ok((value, warnings))
}

fn objectives(written: Option<&At<Vec<Measure>>>, findings: &mut Findings) -> Vec<Measure> {
    let Some(written) = written else { return Measure::USUAL.to_vec() };
    let distinct: BTreeSet<Measure> = written.value.iter().copied().collect();
    if distinct.is_empty() || distinct.len() < written.value.len() {
        let message =
            if distinct.is_empty() { "there is no objective" } else { "an objective is named twice" };
        findings.error("S0032", written.span(), message).label("expected one or more, each once");
    }
    distinct.into_iter().collect()
}

/// Every value of a key alone must make a policy.
fn each_value(axis: &Axis<'_>, base: &Table, findings: &mut Findings) {
    let key = axis.key;
    if axis.values.is_empty() {
        findings
            .error("S0031", key.span(), format!("`{}` has no value", key.value))
            .label("expected one or more");
    }
    for (at, value) in axis.values.iter().enumerate() {
        if axis.values[..at].iter().any(|other| other.value.0 == value.value.0) {
            findings.error("S0031", value.span(), "the same value twice").label("again");
            continue;
        }
        if let Err(refused) = variant(base, &[(key.as_str(), value)]) {
            let finding = findings
                .error("S0033", value.span(), format!("the policy does not take it: {}", refused.0))
                .label(format!("as `{}`", key.value));
            if let Some(help) = refused.1 {
                finding.help(help);
            }
        }
    }
}

/// Which of all variants, ascending.
fn chosen(written: &SweepFile, all: u64, seed: u64, findings: &mut Findings) -> Vec<u64> {
    let wanted = written.random.as_ref().map(|random| u64::from(random.value));
    let count = wanted.map_or(all, |wanted| wanted.min(all));
    if let (Some(random), true) = (&written.random, count == 0) {
        findings.error("S0035", random.span(), "no variant is asked for").label("expected one or more");
    }
    if let (Some(random), Some(true)) = (&written.random, wanted.map(|wanted| wanted >= all && wanted > 0)) {
        findings
            .warning("S0036", random.span(), format!("there are only {all} variants"))
            .label("all of them");
    }
    if count > MOST {
        findings
            .error("S0035", written.grid.span(), format!("there would be {all} variants"))
            .label(format!("at most {MOST} are run"))
            .help("give keys fewer values, or ask for some of them with `random = 100`");
        return Vec::new();
    }
    if count == all {
        return (0..all).collect();
    }
    // Floyd's way to draw without putting back (Bentley, Floyd, Communications of the ACM 30, 1987).
    let mut drawn = BTreeSet::new();
    for last in all - count..all {
        let number = below(seed, last, last + 1);
        if !drawn.insert(number) {
            drawn.insert(last);
        }
    }
    drawn.into_iter().collect()
}

/// A number below a bound that looks random, by the seed and how often it was drawn.
fn below(seed: u64, count: u64, bound: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"variants").update(&seed.to_le_bytes()).update(&count.to_le_bytes());
    let drawn = hasher.finalize();
    let drawn = drawn.as_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    u64::try_from((u128::from(drawn) * u128::from(bound)) >> 64).unwrap_or(0)
}

/// The values of a variant, by its number.
fn picked<'a>(axes: &[Axis<'a>], mut number: u64) -> Vec<(&'a str, &'a At<Any>)> {
    let mut picked = Vec::with_capacity(axes.len());
    for axis in axes.iter().rev() {
        let values = axis.values.len() as u64;
        let at = usize::try_from(number % values).unwrap_or(0);
        picked.push((axis.key.as_str(), &axis.values[at]));
        number /= values;
    }
    picked.reverse();
    picked
}

fn settings(picked: &[(&str, &At<Any>)]) -> Settings {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    picked.iter().map(|(key, value)| ((*key).to_owned(), word(&value.value.0))).collect()
}

/// Why a policy is refused, and what would help.
struct Refused(String, Option<String>);

/// The policy with some keys set anew, read by the loader of policies.
fn variant(base: &Table, picked: &[(&str, &At<Any>)]) -> Result<Policy, Refused> {
    let mut table = base.clone();
    for (key, value) in picked {
        set(&mut table, key, value.value.0.clone())?;
    }
    let text = toml::to_string(&table).map_err(|error| Refused(error.to_string(), None))?;
    policy("the variant", &text).map(|loaded| loaded.value).map_err(|invalid| {
        let report = invalid.report();
        let first = report
            .diagnostics()
            .iter()
            .find(|one| one.severity == sterna_policies::diagnose::Severity::Error);
        match first {
            Some(first) => {
                let expected = Some(&first.label).filter(|label| label.starts_with("expected"));
                let expected = expected.map(|label| format!(" ({label})")).unwrap_or_default();
                Refused(format!("{}{expected}", first.message), first.help.clone())
            }
            None => Refused(report.to_string(), None),
        }
    })
}

/// Sets a key; tables that are missing on the way are made, and lists are counted from 0.
fn set(table: &mut Table, key: &str, value: Value) -> Result<(), Refused> {
    let no_table = |part: &str| Refused(format!("`{part}` of `{key}` is no table"), None);
    let mut parts: Vec<&str> = key.split('.').collect();
    let Some(last) = parts.pop() else { return Err(no_table(key)) };
    let mut at = table;
    let mut rest = parts.into_iter();
    while let Some(part) = rest.next() {
        let entry = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        at = match entry {
            Value::Table(table) => table,
            Value::Array(list) => {
                let number = rest.next().and_then(|number| number.parse::<usize>().ok());
                let length = list.len();
                let item = number.and_then(|number| list.get_mut(number));
                let counted = || {
                    Refused(
                        format!("`{part}` of `{key}` is a list of {length}"),
                        Some(format!("name one of them by its number, such as `{part}.0`")),
                    )
                };
                item.and_then(Value::as_table_mut).ok_or_else(counted)?
            }
            _ => return Err(no_table(part)),
        };
    }
    at.insert(last.to_owned(), value);
    Ok(())
}
