//! Whether a query is PromQL that gives one number for each site.

use promql_parser::parser::{
    AggregateExpr, Expr, LabelModifier, VectorSelector, parse, token, value::ValueType,
};

use super::{At, Findings};

/// Longer ones are refused: nobody can review them, and the parser's depth grows with the length.
const LONGEST: usize = 4096;

/// Reports a query that is not PromQL, doesn't give an instant vector, or loses one of the labels that are asked of it.
pub(super) fn check(query: &At<String>, labels: &[&str], findings: &mut Findings) {
    if query.len() > LONGEST {
        findings
            .error("P0010", query.span(), format!("the query has {} bytes", query.len()))
            .label(format!("expected at most {LONGEST}"))
            .help("record parts of it by rules of Prometheus and query those");
        return;
    }
    if query.trim().is_empty() {
        findings.error("P0010", query.span(), "the query is empty").label("expected PromQL");
        return;
    }
    let expr = match parse(query) {
        Ok(expr) => expr,
        Err(reason) => {
            let reason = reason.lines().next().unwrap_or_default();
            findings
                .error("P0010", query.span(), format!("the query is not PromQL: {reason}"))
                .label("expected PromQL");
            return;
        }
    };
    let wanted = match expr.value_type() {
        ValueType::Vector => None,
        ValueType::Matrix => {
            Some(("a range of values", "take a function of it, such as avg_over_time(… [1m])"))
        }
        ValueType::Scalar => Some(("one number for all", "query a series that has a label for the site")),
        ValueType::String => Some(("text", "query a series that has a label for the site")),
    };
    if let Some((found, help)) = wanted {
        findings
            .error("P0017", query.span(), format!("the query gives {found}"))
            .label("expected an instant vector: one value for each site")
            .help(help);
        return;
    }
    warn(query, &expr, findings);
    let lost: Vec<(&str, &AggregateExpr)> =
        labels.iter().filter_map(|label| lost(&expr, label).map(|by| (*label, by))).collect();
    if let Some((_, aggregation)) = lost.first() {
        let gone: Vec<String> = lost.iter().map(|(label, _)| format!("`{label}`")).collect();
        let gone = gone.join(" and ");
        let plural = if lost.len() > 1 { "s" } else { "" };
        findings
            .error("P0018", query.span(), format!("the query loses the label{plural} {gone}"))
            .label(format!("dropped by `{}`", aggregation.op))
            .help(match &aggregation.modifier {
                Some(LabelModifier::Exclude(_)) => format!("take {gone} out of `without`"),
                _ => format!("write {} by ({}) (…)", aggregation.op, labels.join(", ")),
            });
    }
}

/// Warns of what is PromQL and yet a trap.
fn warn(query: &At<String>, expr: &Expr, findings: &mut Findings) {
    let mut traps = Traps::default();
    traps.look(expr);
    if let Some(function) = traps.last_two {
        findings
            .warning("W0010", query.span(), format!("`{function}` rests on the last two samples alone"))
            .label("jumps with every scrape")
            .help("take rate(… [5m]), over at least four scrapes");
    }
    if traps.stand_in {
        findings
            .warning("W0011", query.span(), "`or vector(…)` stands in for what is missing")
            .label("how old values are can't be told through it, so none is used")
            .help("leave it out; `on_missing` and `fallback` say what to do where a value is missing");
    }
}

#[derive(Default)]
struct Traps {
    last_two: Option<&'static str>,
    stand_in: bool,
}

impl Traps {
    fn look(&mut self, expr: &Expr) {
        match expr {
            Expr::Call(call) => {
                if matches!(call.func.name, "irate" | "idelta") {
                    self.last_two = Some(call.func.name);
                }
                call.args.args.iter().for_each(|argument| self.look(argument));
            }
            Expr::Binary(binary) => {
                let constant = |expr: &Expr| matches!(expr, Expr::Call(call) if call.func.name == "vector");
                self.stand_in |= binary.op.id() == token::T_LOR && constant(&binary.rhs);
                self.look(&binary.lhs);
                self.look(&binary.rhs);
            }
            Expr::Aggregate(aggregate) => self.look(&aggregate.expr),
            Expr::Paren(inner) => self.look(&inner.expr),
            Expr::Unary(inner) => self.look(&inner.expr),
            Expr::Subquery(inner) => self.look(&inner.expr),
            _ => {}
        }
    }
}

/// The aggregation that certainly takes a label away from the result, if any.
fn lost<'a>(expr: &'a Expr, label: &str) -> Option<&'a AggregateExpr> {
    match expr {
        Expr::Paren(inner) => lost(&inner.expr, label),
        Expr::Unary(inner) => lost(&inner.expr, label),
        Expr::Subquery(inner) => lost(&inner.expr, label),
        Expr::Aggregate(aggregate) => {
            // These give back series of their input, labels and all.
            let selects = matches!(
                aggregate.op.id(),
                token::T_TOPK | token::T_BOTTOMK | token::T_LIMITK | token::T_LIMIT_RATIO
            );
            let drops = match &aggregate.modifier {
                Some(LabelModifier::Include(kept)) => !kept.labels.iter().any(|kept| kept == label),
                Some(LabelModifier::Exclude(dropped)) => {
                    dropped.labels.iter().any(|dropped| dropped == label)
                }
                None => true,
            };
            if drops && !selects { Some(aggregate) } else { lost(&aggregate.expr, label) }
        }
        Expr::Call(call) => match call.func.name {
            // They can make any label.
            "label_replace" | "label_join" | "info" | "absent" | "absent_over_time" | "vector" => None,
            _ => {
                let vectors =
                    |expr: &&Expr| matches!(expr.value_type(), ValueType::Vector | ValueType::Matrix);
                let mut vectors = call.args.args.iter().map(AsRef::as_ref).filter(vectors);
                match (vectors.next(), vectors.next()) {
                    (Some(only), None) => lost(only, label),
                    _ => None,
                }
            }
        },
        Expr::Binary(binary) => {
            let scalar = |expr: &Expr| expr.value_type() == ValueType::Scalar;
            match (scalar(&binary.lhs), scalar(&binary.rhs)) {
                (false, true) => lost(&binary.lhs, label),
                (true, false) => lost(&binary.rhs, label),
                // The labels of the left side are the result's.
                _ if matches!(binary.op.id(), token::T_LAND | token::T_LUNLESS) => lost(&binary.lhs, label),
                // Matching can bring labels in from either side.
                _ => None,
            }
        }
        Expr::VectorSelector(VectorSelector { .. })
        | Expr::MatrixSelector(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::Extension(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(query: &str) -> Vec<&'static str> {
        let mut findings = Findings::new("p.toml", query);
        let query = At { value: query.to_owned(), span: 0..query.len() };
        check(&query, &["site"], &mut findings);
        match findings.refuse_errors() {
            Ok(_) => Vec::new(),
            Err(invalid) => invalid.report().diagnostics().iter().map(|found| found.code).collect(),
        }
    }

    #[test]
    fn what_keeps_the_label_is_accepted() {
        for query in [
            "x",
            "avg by (site) (rate(x[1m]))",
            "1 - avg by (site, a) (x)",
            "sum without (cpu) (x)",
            "topk(1, x)",
            "avg_over_time((x and on (a) y == 1)[20s:2s])",
            "label_replace(sum by (node) (x), \"site\", \"$1\", \"node\", \"(.+)\")",
            "sum by (node) (x) * on (node) group_left (site) info_of_node",
            "histogram_quantile(0.9, sum by (le, site) (rate(x_bucket[5m])))",
            "x and sum(y)",
            "vector(1)",
        ] {
            assert_eq!(codes(query), Vec::<&str>::new(), "{query}");
        }
    }

    #[test]
    fn what_loses_the_label_is_refused() {
        for query in [
            "sum(x)",
            "avg by (instance) (x)",
            "sum without (site) (x)",
            "1 - avg(x)",
            "sum(x) and y",
            "max_over_time(sum by (a) (x)[1m:5s])",
            "max by (site) (sum by (a) (x))",
            "abs(-sum(x))",
            "histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m])))",
        ] {
            assert_eq!(codes(query), ["P0018"], "{query}");
        }
    }

    #[test]
    fn what_is_no_instant_vector_is_refused() {
        assert_eq!(codes("x[5m]"), ["P0017"]);
        assert_eq!(codes("1 + 1"), ["P0017"]);
        assert_eq!(codes("\"text\""), ["P0017"]);
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for query in ["", "  ", "avg by (site) (x", "x{site=}", "rate(x)", "nothing(x)", "x y"] {
            assert_eq!(codes(query), ["P0010"], "{query}");
        }
        let deep = format!("{}x{}", "(".repeat(LONGEST / 2 - 1), ")".repeat(LONGEST / 2 - 1));
        assert_eq!(codes(&deep), Vec::<&str>::new());
        assert_eq!(codes(&format!("(({deep}))")), ["P0010"]);
    }
}
