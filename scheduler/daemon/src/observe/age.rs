//! How old the numbers of a query are.
//!
//! Prometheus gives every value of an instant query the time of evaluation, so a number that rests on an hour-old sample
//! looks as fresh as any. The age is asked for apart: from the policy's expression we make *witnesses*, expressions that
//! give the time of the oldest sample behind each value. The policy's own expression is sent as it was written.
//!
//! - an instant selector `x` is witnessed by `timestamp(x)`;
//! - a range `x[5m]` goes on giving values for five minutes after its series has ended, so its witness looks for the newest
//!   sample in the range: `timestamp(x)` where there still is one, or `max_over_time(timestamp(x)[5m:step])`, too old by
//!   one step at most, never too young;
//! - an aggregation is as old as the oldest series in it, an operator as its older side.
//!
//! A witness's labels are some of the labels of the values that it speaks for, so a value belongs to every witness row
//! whose labels it has.

use std::time::Duration;

use jiff::Timestamp;
use promql_parser::label::Labels;
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality, VectorSelector, token,
};
use sterna_policies::quantity::Millis;
use thiserror::Error;

use super::store::{Answer, Row};

/// An expression whose age can't be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AgeError {
    /// It is not PromQL.
    #[error("the query is not valid PromQL: {0}")]
    Syntax(String),
    /// It has a part through which the age can't be followed.
    #[error(
        "how old the values of the query are can't be known through `{0}`; record that part by a rule and query the rule's series"
    )]
    Opaque(String),
}

/// The witnesses of an expression. None for one that rests on no sample at all.
///
/// `step` is the resolution with which ranges are searched.
///
/// # Errors
/// When the expression can't be parsed, or the age can't be followed through a part of it.
pub fn witnesses(query: &str, step: Duration) -> Result<Vec<String>, AgeError> {
    let expr = promql_parser::parser::parse(query).map_err(AgeError::Syntax)?;
    let mut all = follow(&expr, step)?;
    all.sort();
    all.dedup();
    Ok(all)
}

fn follow(expr: &Expr, step: Duration) -> Result<Vec<String>, AgeError> {
    match expr {
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(Vec::new()),
        Expr::VectorSelector(selector) => Ok(vec![format!("timestamp({selector})")]),
        Expr::MatrixSelector(range) => Ok(vec![newest(&timestamp(&range.vs), range.range, step)]),
        Expr::Subquery(sub) if sub.offset.is_none() && sub.at.is_none() => {
            Ok(follow(&sub.expr, step)?.iter().map(|inner| newest(inner, sub.range, step)).collect())
        }
        Expr::Subquery(_) | Expr::Extension(_) => Err(AgeError::Opaque(expr.to_string())),
        Expr::Paren(inner) => follow(&inner.expr, step),
        Expr::Unary(inner) => follow(&inner.expr, step),
        Expr::Aggregate(aggregate) => follow_aggregate(aggregate, step),
        Expr::Binary(binary) => follow_binary(binary, step),
        Expr::Call(call) => follow_call(call, step),
    }
}

fn timestamp(selector: &VectorSelector) -> String {
    format!("timestamp({selector})")
}

/// The newest timestamp that `witness` gave within `range`.
fn newest(witness: &str, range: Duration, step: Duration) -> String {
    // A step longer than the range would find nothing.
    let step = step.min(range / 2).max(Duration::from_millis(1));
    format!("({witness}) or max_over_time(({witness})[{}ms:{}ms])", range.as_millis(), step.as_millis())
}

fn by(labels: &Labels, witness: &str) -> String {
    format!("min by ({labels}) ({witness})")
}

fn without(labels: &Labels, witness: &str) -> String {
    format!("min without ({labels}) ({witness})")
}

fn follow_aggregate(aggregate: &AggregateExpr, step: Duration) -> Result<Vec<String>, AgeError> {
    let mut all = follow(&aggregate.expr, step)?;
    // These give back series of their input, labels and all.
    let selects = matches!(
        aggregate.op.id(),
        token::T_TOPK | token::T_BOTTOMK | token::T_LIMITK | token::T_LIMIT_RATIO
    );
    if !selects {
        for witness in &mut all {
            *witness = match &aggregate.modifier {
                Some(LabelModifier::Include(labels)) if !labels.is_empty() => by(labels, witness),
                Some(LabelModifier::Exclude(labels)) => without(labels, witness),
                _ => format!("min({witness})"),
            };
        }
    }
    if let Some(parameter) = &aggregate.param {
        all.extend(follow(parameter, step)?);
    }
    Ok(all)
}

fn follow_call(call: &Call, step: Duration) -> Result<Vec<String>, AgeError> {
    let mut all = Vec::new();
    for argument in &call.args.args {
        all.extend(follow(argument, step)?);
    }
    let arguments = || call.args.args.iter().skip(1).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match call.func.name {
        // They make values out of absence, or join what their arguments don't show.
        "absent" | "absent_over_time" | "info" => Err(AgeError::Opaque(call.to_string())),
        "scalar" => Ok(all.iter().map(|one| format!("min({one})")).collect()),
        // They take the label `le` away.
        "histogram_quantile" => Ok(all.iter().map(|one| without(&Labels::new(vec!["le"]), one)).collect()),
        name @ ("label_replace" | "label_join") => {
            Ok(all.iter().map(|one| format!("{name}({one}, {})", arguments())).collect())
        }
        _ => Ok(all),
    }
}

fn follow_binary(binary: &BinaryExpr, step: Duration) -> Result<Vec<String>, AgeError> {
    let opaque = || AgeError::Opaque(binary.to_string());
    let (left, right) = (follow(&binary.lhs, step)?, follow(&binary.rhs, step)?);
    let matching = binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref());
    let cardinality =
        binary.modifier.as_ref().map_or(&VectorMatchCardinality::OneToOne, |modifier| &modifier.card);
    // The labels on which two sides meet.
    let meet = |all: Vec<String>| -> Vec<String> {
        match matching {
            Some(LabelModifier::Include(labels)) if labels.is_empty() => {
                all.iter().map(|one| format!("min({one})")).collect()
            }
            Some(LabelModifier::Include(labels)) => all.iter().map(|one| by(labels, one)).collect(),
            Some(LabelModifier::Exclude(labels)) if !labels.is_empty() => {
                all.iter().map(|one| without(labels, one)).collect()
            }
            _ => all,
        }
    };
    // The "many" side keeps its labels but those that `group_left` takes from the other.
    let many = |all: Vec<String>, taken: &Labels| -> Vec<String> {
        if taken.is_empty() { all } else { all.iter().map(|one| without(taken, one)).collect() }
    };
    let (left, right) = match binary.op.id() {
        token::T_LOR => match (left.as_slice(), right.as_slice()) {
            ([left], [right]) => return Ok(vec![format!("({left}) or ({right})")]),
            _ => return Err(opaque()),
        },
        token::T_LUNLESS => (left, Vec::new()),
        token::T_LAND => (left, meet(right)),
        _ => match cardinality {
            VectorMatchCardinality::ManyToOne(taken) => (many(left, taken), meet(right)),
            VectorMatchCardinality::OneToMany(taken) => (meet(left), many(right, taken)),
            _ => (meet(left), meet(right)),
        },
    };
    Ok(left.into_iter().chain(right).collect())
}

/// Age of a value by the answers of all witnesses: by the oldest that speaks for it. `None` where one has nothing to say,
/// which means that the samples behind the value are too old to be seen.
pub fn age(row: &Row, at: Timestamp, answers: &[Answer]) -> Option<Millis> {
    let mut oldest = Millis::ZERO;
    for answer in answers {
        let mut heard = false;
        for witness in answer.rows.iter().filter(|witness| speaks_for(witness, row)) {
            let seconds = witness.value.filter(|value| value.is_finite())?;
            let age = (at.as_millisecond() as f64 - seconds * 1e3).round();
            // An exporter's clock may be ahead of the store's.
            oldest = oldest.max(Millis::from_f64(age.max(0.0))?);
            heard = true;
        }
        if !heard {
            return None;
        }
    }
    Some(oldest)
}

fn speaks_for(witness: &Row, row: &Row) -> bool {
    witness.labels.iter().all(|(name, value)| row.labels.get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Vec<String> {
        witnesses(query, Duration::from_secs(6)).unwrap()
    }

    #[test]
    fn selectors_are_witnessed_as_they_stand() {
        assert_eq!(of(r#"up{job=~"a\\d+",x!="\"q\""}"#), [r#"timestamp(up{job=~"a\\d+",x!="\"q\""})"#]);
        assert_eq!(of("up offset 5m"), ["timestamp(up offset 5m)"]);
        assert_eq!(of("1000 * (x > 0)"), ["timestamp(x)"]);
        assert_eq!(of("clamp_min(-x, 3)"), ["timestamp(x)"]);
    }

    #[test]
    fn a_range_is_as_old_as_its_newest_sample() {
        assert_eq!(of("rate(x[5m])"), ["(timestamp(x)) or max_over_time((timestamp(x))[300000ms:6000ms])"]);
        assert_eq!(
            of("last_over_time(x[2s])"),
            ["(timestamp(x)) or max_over_time((timestamp(x))[2000ms:1000ms])"]
        );
        assert_eq!(
            of("quantile_over_time(0.95, (x and on (i) ok == 1)[5m:15s])"),
            [
                "(min by (i) (timestamp(ok))) or max_over_time((min by (i) (timestamp(ok)))[300000ms:6000ms])",
                "(timestamp(x)) or max_over_time((timestamp(x))[300000ms:6000ms])"
            ]
        );
    }

    #[test]
    fn aggregations_and_operators_are_as_old_as_their_oldest_part() {
        assert_eq!(of("sum by (site) (x)"), ["min by (site) (timestamp(x))"]);
        assert_eq!(of("max(x)"), ["min(timestamp(x))"]);
        assert_eq!(of("topk(1, x)"), ["timestamp(x)"]);
        assert_eq!(
            of("a * on (i) group_left (site) b"),
            ["min by (i) (timestamp(b))", "min without (site) (timestamp(a))"]
        );
        assert_eq!(of("a unless b"), ["timestamp(a)"]);
        assert_eq!(of("a or b"), ["(timestamp(a)) or (timestamp(b))"]);
        assert_eq!(of("a * scalar(b)"), ["min(timestamp(b))", "timestamp(a)"]);
        assert_eq!(
            of("histogram_quantile(0.5, sum by (le, s) (rate(x[1m])))"),
            [
                "min without (le) (min by (le, s) ((timestamp(x)) or max_over_time((timestamp(x))[60000ms:6000ms])))"
            ]
        );
        assert_eq!(
            of(r#"label_replace(x, "site", "$1", "host", "(.*)")"#),
            [r#"label_replace(timestamp(x), "site", "$1", "host", "(.*)")"#]
        );
        assert!(of("vector(1)").is_empty());
    }

    #[test]
    fn what_cannot_be_followed_is_said() {
        assert!(matches!(witnesses("absent(up)", Duration::from_secs(1)), Err(AgeError::Opaque(_))));
        assert!(matches!(witnesses("x or vector(0)", Duration::from_secs(1)), Err(AgeError::Opaque(_))));
        assert!(matches!(witnesses("sum by (", Duration::from_secs(1)), Err(AgeError::Syntax(_))));
    }

    fn row(labels: &[(&str, &str)], value: f64) -> Row {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Row { labels, value: Some(value), at: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn the_oldest_witness_counts_and_silence_is_no_age() {
        let at = Timestamp::from_second(1000).unwrap();
        let value = row(&[("site", "a"), ("job", "j")], 1.0);
        let fresh = Answer { rows: vec![row(&[("site", "a")], 990.0), row(&[("site", "b")], 1.0)] };
        let old = Answer { rows: vec![row(&[], 970.5)] };
        assert_eq!(age(&value, at, &[fresh.clone(), old]), Millis::from_f64(29_500.0));
        assert_eq!(age(&value, at, &[fresh.clone(), Answer::default()]), None);
        assert_eq!(age(&value, at, &[]), Some(Millis::ZERO));
        let ahead = Answer { rows: vec![row(&[], 1003.0)] };
        assert_eq!(age(&value, at, &[ahead]), Some(Millis::ZERO));
    }
}
