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
