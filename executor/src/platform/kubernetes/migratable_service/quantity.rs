//! Quantities of Kubernetes, such as `250m` and `64Mi`.

/// A quantity of Kubernetes; `None` for what is none. The crate for it, kube_quantity, is bound to another version of k8s-openapi.
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
pub(super) fn quantity(text: &str) -> Option<f64> {
    let digits = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-');
    let (number, suffix) = text.split_at(text.find(|c| !digits(c)).unwrap_or(text.len()));
    let number: f64 = number.parse().ok()?;
    let kibi = 1024_f64;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => kibi,
        "Mi" => kibi.powi(2),
        "Gi" => kibi.powi(3),
        "Ti" => kibi.powi(4),
        "Pi" => kibi.powi(5),
        "Ei" => kibi.powi(6),
        _ => 10_f64.powi(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let quantity = number * factor;
    quantity.is_finite().then_some(quantity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, wanted) in [
            ("1", Some(1.0)),
            ("100m", Some(0.1)),
            ("1.5Gi", Some(1.5 * 1_073_741_824.0)),
            ("2e3", Some(2000.0)),
            ("1E", Some(1e18)),
            ("+3k", Some(3000.0)),
            ("", None),
            ("Mi", None),
            ("1 Mi", None),
            ("1e999", None),
            ("1.2.3", None),
        ] {
            assert_eq!(quantity(text), wanted, "{text}");
        }
    }
}
