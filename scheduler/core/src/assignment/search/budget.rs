//! How much may be spent on a search.

/// How much may be spent. The search asks often; what counts is work here, and time only at the rim.
pub trait Budget: Sync {
    /// The share that is spent after so many proposals of this search; 1 or more when it is over.
    fn spent(&self, proposals: u64) -> f64;
}

/// So many proposals, whatever time they take: the same result on every machine.
#[derive(Debug, Clone, Copy)]
pub struct Proposals(pub u64);

impl Budget for Proposals {
    fn spent(&self, proposals: u64) -> f64 {
        if self.0 == 0 { 1.0 } else { proposals as f64 / self.0 as f64 }
    }
}

/// A part of a budget.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    /// All of it.
    pub whole: &'a dyn Budget,
    /// Proposals that every search made before.
    pub made: u64,
    /// The shares of the whole at which the part begins and ends.
    pub between: (f64, f64),
}

impl Budget for Part<'_> {
    fn spent(&self, proposals: u64) -> f64 {
        let (begin, end) = self.between;
        ((self.whole.spent(self.made + proposals) - begin) / (end - begin)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_spent_one_after_the_other() {
        let whole = &Proposals(1000);
        let first = Part { whole, made: 0, between: (0.0, 0.75) };
        assert_eq!([0, 375, 750].map(|made| first.spent(made)), [0.0, 0.5, 1.0]);
        let second = Part { whole, made: 750, between: (0.75, 1.0) };
        assert_eq!([0, 125, 250].map(|made| second.spent(made)), [0.0, 0.5, 1.0]);
        // Nothing was spent of it where the first ended early.
        assert_eq!(Part { made: 700, ..second }.spent(0), 0.0);
    }
}
