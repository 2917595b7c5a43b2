//! Expressions that are asked beside a policy's own and tell something of the samples behind each of its values.
//!
//! A *witness* is made from the expression itself: what is asked of a sample (how [old](super::age) it is, how
//! [many](super::warmth) there are) takes the place of the selectors, and aggregations and operators around them are followed by
//! `min`, so that the worst sample speaks. A witness's labels are some of the labels of the values that it speaks for, so a
//! value belongs to every witness row whose labels it has.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use promql_parser::label::Labels;
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, MatrixSelector, VectorMatchCardinality,
    VectorSelector, token,
};
use promql_parser::util::{ExprVisitor, walk_expr};
use thiserror::Error;

use super::store::Row;

/// An expression whose samples can't be followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WitnessError {
    /// It is not PromQL.
    #[error("the query is not valid PromQL: {0}")]
    Syntax(String),
    /// It has a part through which its samples can't be followed.
    #[error(
        "how old the values of the query are can't be known through `{0}`; record that part by a rule and query the rule's series"
    )]
    Opaque(String),
}

/// What is asked of the samples. `None`: of these, nothing.
pub(super) trait Witness {
    /// Whether a value without a witness can't be used.
    const NEEDED: bool;
    /// Of the samples that an instant selector gives.
    fn instant(&self, selector: &VectorSelector) -> Option<String>;
    /// Of the samples of a range that a function is taken of.
    fn range(&self, range: &MatrixSelector, function: &str) -> Option<String>;
    /// What a witness said at every instant of a subquery's range, made one.
    fn subquery(&self, inner: String, range: Duration) -> String;
}

/// The witnesses of an expression; the same is not asked twice.
pub(super) fn of(query: &str, ask: &impl Witness) -> Result<Vec<String>, WitnessError> {
    let expr = promql_parser::parser::parse(query).map_err(WitnessError::Syntax)?;
    let mut all = follow(&expr, "", ask)?;
    all.sort();
    all.dedup();
    Ok(all)
}

/// The selectors of an expression, as they stand in it, but without offsets; each once.
///
/// # Errors
/// Where it is not PromQL.
pub fn selectors(query: &str) -> Result<BTreeSet<String>, WitnessError> {
    struct Found(BTreeSet<String>);
    impl ExprVisitor for Found {
        type Error = Infallible;
        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Infallible> {
            let selector = match expr {
                Expr::VectorSelector(selector) => Some(selector),
                Expr::MatrixSelector(range) => Some(&range.vs),
                _ => None,
            };
            if let Some(VectorSelector { name, matchers, .. }) = selector {
                self.0.insert(VectorSelector::new(name.clone(), matchers.clone()).to_string());
            }
            Ok(true)
        }
    }
    let expr = promql_parser::parser::parse(query).map_err(WitnessError::Syntax)?;
    let mut found = Found(BTreeSet::new());
    let Ok(_all) = walk_expr(&mut found, &expr);
    Ok(found.0)
}

/// Whether a witness row is about a value.
pub(super) fn speaks_for(witness: &Row, row: &Row) -> bool {
    witness.labels.iter().all(|(name, value)| row.labels.get(name) == Some(value))
}

fn by(labels: &Labels, witness: &str) -> String {
    format!("min by ({labels}) ({witness})")
}

fn without(labels: &Labels, witness: &str) -> String {
    format!("min without ({labels}) ({witness})")
}

/// `function` is the one that the expression is an argument of.
fn follow(expr: &Expr, function: &str, ask: &impl Witness) -> Result<Vec<String>, WitnessError> {
    match expr {
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(Vec::new()),
        Expr::VectorSelector(selector) => Ok(ask.instant(selector).into_iter().collect()),
        Expr::MatrixSelector(range) => Ok(ask.range(range, function).into_iter().collect()),
        Expr::Subquery(sub) if sub.offset.is_none() && sub.at.is_none() => {
            let inner = follow(&sub.expr, "", ask)?;
            Ok(inner.into_iter().map(|inner| ask.subquery(inner, sub.range)).collect())
        }
        Expr::Subquery(_) | Expr::Extension(_) => Err(WitnessError::Opaque(expr.to_string())),
        Expr::Paren(inner) => follow(&inner.expr, function, ask),
        Expr::Unary(inner) => follow(&inner.expr, "", ask),
        Expr::Aggregate(aggregate) => follow_aggregate(aggregate, ask),
        Expr::Binary(binary) => follow_binary(binary, ask),
        Expr::Call(call) => follow_call(call, ask),
    }
}

fn follow_aggregate(aggregate: &AggregateExpr, ask: &impl Witness) -> Result<Vec<String>, WitnessError> {
    let mut all = follow(&aggregate.expr, "", ask)?;
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
        all.extend(follow(parameter, "", ask)?);
    }
    Ok(all)
}

fn follow_call(call: &Call, ask: &impl Witness) -> Result<Vec<String>, WitnessError> {
    let mut all = Vec::new();
    for argument in &call.args.args {
        all.extend(follow(argument, call.func.name, ask)?);
    }
    let arguments = || call.args.args.iter().skip(1).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match call.func.name {
        // They make values out of absence, or join what their arguments don't show.
        "absent" | "absent_over_time" | "info" => Err(WitnessError::Opaque(call.to_string())),
        "scalar" => Ok(all.iter().map(|one| format!("min({one})")).collect()),
        // They take the label `le` away.
        "histogram_quantile" => Ok(all.iter().map(|one| without(&Labels::new(vec!["le"]), one)).collect()),
        name @ ("label_replace" | "label_join") => {
            Ok(all.iter().map(|one| format!("{name}({one}, {})", arguments())).collect())
        }
        _ => Ok(all),
    }
}

fn follow_binary<W: Witness>(binary: &BinaryExpr, ask: &W) -> Result<Vec<String>, WitnessError> {
    let (left, right) = (follow(&binary.lhs, "", ask)?, follow(&binary.rhs, "", ask)?);
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
        // A value comes from one side whole, so only that side's witnesses may speak for it.
        token::T_LOR => {
            let (left, right) = (worst(left), worst(right));
            return match (left, right) {
                (Some(Some(left)), Some(Some(right))) => Ok(vec![format!("({left}) or ({right})")]),
                (Some(None), Some(None)) => Ok(Vec::new()),
                (Some(Some(one)), Some(None)) | (Some(None), Some(Some(one))) if !W::NEEDED => Ok(vec![one]),
                _ => Err(WitnessError::Opaque(binary.to_string())),
            };
        }
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

/// One witness for all: the least of what they say where all of them speak of the same labels, silent elsewhere. The outer
/// `None`: there are too many.
fn worst(all: Vec<String>) -> Option<Option<String>> {
    match all.as_slice() {
        [] => Some(None),
        [one] => Some(Some(one.clone())),
        [a, b] if a == b => Some(Some(a.clone())),
        [a, b] => Some(Some(format!("(({a}) < ({b})) or (({b}) <= ({a}))"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_told_once_and_as_they_stand() {
        let query = "sum by (site) (rate(a{x=\"1\"}[5m])) / on (i) (b > 0) or max_over_time((a{x=\"1\"} and c)[1m:5s])";
        assert_eq!(selectors(query).unwrap().into_iter().collect::<Vec<_>>(), ["a{x=\"1\"}", "b", "c"]);
        assert!(selectors("time()").unwrap().is_empty());
        assert!(selectors("a{").is_err());
    }
}
