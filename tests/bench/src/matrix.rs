//! What is measured with what: memory, link and rate of writes, and the variants that are compared there.

use std::fmt;

use serde::Serialize;

/// Megabit per second of the slow link.
pub const SLOW: u32 = 100;
/// Megabit per second of the fast link.
pub const FAST: u32 = 1000;
/// Sizes that are measured, in MiB.
pub const SIZES: [u32; 5] = [4, 64, 256, 512, 1024];
/// Rates of writes, in MiB per second.
pub const RATES: [u32; 3] = [0, 1, 20];
/// Why a variant is missing that nobody wanted.
pub const NOT_ASKED: &str = "not asked for";
/// A transfer while the service stands still is measured only where it takes less, in seconds.
const PATIENCE: f64 = 60.0;

/// The link between the two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// As fast as the machine is.
    Unlimited,
    /// Shaped to this many Mbit/s.
    Mbit(u32),
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.pad("unlimited"),
            Self::Mbit(rate) if rate % 1000 == 0 => f.pad(&format!("{} Gbit/s", rate / 1000)),
            Self::Mbit(rate) => f.pad(&format!("{rate} Mbit/s")),
        }
    }
}

/// A way to move a service, or the least that any could take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Direct dump and restore, and what has to cross meanwhile.
    Floor,
    /// Sterna, as it does it by itself.
    SentAhead,
    /// Sterna, with nothing sent ahead.
    StopAndCopy,
    /// Docker's own checkpoint API, with a copy in between.
    EngineApi,
}

impl Variant {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Floor, Self::SentAhead, Self::StopAndCopy, Self::EngineApi];
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Floor => "floor",
            Self::SentAhead => "sent ahead",
            Self::StopAndCopy => "stop-and-copy",
            Self::EngineApi => "engine API",
        })
    }
}

/// One row: a service of this size, writing at this rate, over this link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cell {
    /// Resident memory.
    pub mib: u32,
    /// The link.
    pub link: Link,
    /// MiB of random pages that it rewrites per second.
    pub rate: u32,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} MiB, {}, {} MiB/s written", self.mib, self.link, self.rate))
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Few rows: what the goals need, and little more.
    Quick,
    /// The rows that tell something.
    Usual,
    /// Everything with everything.
    Full,
}

impl Scope {
    /// Runs of each variant of a row.
    pub fn runs(self) -> u32 {
        if self == Self::Quick { 3 } else { 5 }
    }

    /// Whether a row is measured.
    fn has(self, cell: Cell) -> bool {
        let Cell { mib, link, rate } = cell;
        match (self, link) {
            (Self::Full, _) => true,
            (Self::Usual, Link::Unlimited) => rate == 0,
            (Self::Usual, Link::Mbit(SLOW)) => [4, 256, 1024].contains(&mib),
            (Self::Usual, Link::Mbit(_)) => [256, 1024].contains(&mib),
            (Self::Quick, Link::Unlimited) => rate == 0 && [4, 256, 1024].contains(&mib),
            (Self::Quick, Link::Mbit(SLOW)) => [(4, 0), (256, 1), (1024, 0)].contains(&(mib, rate)),
            (Self::Quick, Link::Mbit(_)) => (mib, rate) == (256, 0),
        }
    }

    /// The rows, those of a size together: a size's service is started once. By link within a size.
    pub fn cells(self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for mib in SIZES {
            for link in [Link::Unlimited, Link::Mbit(FAST), Link::Mbit(SLOW)] {
                cells.extend(
                    RATES.map(|rate| Cell { mib, link, rate }).into_iter().filter(|&one| self.has(one)),
                );
            }
        }
        cells
    }

    /// The rows, only those of some sizes where these are given.
    pub fn cells_of(self, sizes: Option<&[u32]>) -> Vec<Cell> {
        self.cells().into_iter().filter(|cell| sizes.is_none_or(|sizes| sizes.contains(&cell.mib))).collect()
    }

    /// Why a variant is not measured in a row; `None` where it is.
    pub fn left_out(self, cell: Cell, variant: Variant) -> Option<String> {
        let Link::Mbit(rate) = cell.link else { return None };
        match variant {
            _ if self == Self::Full => None,
            Variant::EngineApi => Some("only over the unlimited link".to_owned()),
            Variant::StopAndCopy => {
                let seconds = f64::from(cell.mib) * 8.0 * 1.048_576 / f64::from(rate);
                (seconds >= PATIENCE).then(|| format!("{seconds:.0} s frozen by the link alone"))
            }
            Variant::Floor | Variant::SentAhead => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(mib: u32, link: Link, rate: u32) -> Cell {
        Cell { mib, link, rate }
    }

    #[test]
    fn the_usual_rows() {
        let cells = Scope::Usual.cells();
        let on = |link| cells.iter().filter(|one| one.link == link).count();
        assert_eq!(on(Link::Unlimited), 5);
        assert_eq!(on(Link::Mbit(SLOW)), 9);
        assert_eq!(on(Link::Mbit(FAST)), 6);
        assert!(cells.iter().all(|one| one.link != Link::Unlimited || one.rate == 0));
        let sizes: Vec<u32> = cells.iter().map(|one| one.mib).collect();
        assert!(sizes.is_sorted(), "a size's service is started once: {sizes:?}");
    }

    #[test]
    fn rows_can_be_chosen_by_size() {
        assert_eq!(Scope::Usual.cells_of(None), Scope::Usual.cells());
        assert!(Scope::Usual.cells_of(Some(&[64])).iter().all(|cell| cell.mib == 64));
        assert!(Scope::Usual.cells_of(Some(&[65])).is_empty());
    }

    #[test]
    fn full_is_everything_and_quick_what_the_goals_need() {
        assert_eq!(Scope::Full.cells().len(), SIZES.len() * RATES.len() * 3);
        let quick = Scope::Quick.cells();
        for needed in [
            cell(256, Link::Unlimited, 0),
            cell(1024, Link::Unlimited, 0),
            cell(4, Link::Mbit(SLOW), 0),
            cell(1024, Link::Mbit(SLOW), 0),
            cell(256, Link::Mbit(SLOW), 1),
        ] {
            assert!(quick.contains(&needed), "{needed}");
        }
        assert!(quick.len() < Scope::Usual.cells().len());
        assert!(quick.iter().all(|one| Scope::Usual.cells().contains(one)));
    }

    #[test]
    fn what_would_take_too_long_is_left_out() {
        let slow = cell(1024, Link::Mbit(SLOW), 0);
        assert_eq!(
            Scope::Usual.left_out(slow, Variant::StopAndCopy).as_deref(),
            Some("86 s frozen by the link alone")
        );
        assert_eq!(Scope::Usual.left_out(cell(1024, Link::Mbit(FAST), 0), Variant::StopAndCopy), None);
        assert_eq!(Scope::Usual.left_out(cell(256, Link::Mbit(SLOW), 0), Variant::StopAndCopy), None);
        assert_eq!(Scope::Full.left_out(slow, Variant::StopAndCopy), None);
        assert!(Scope::Usual.left_out(slow, Variant::EngineApi).is_some());
        for variant in Variant::ALL {
            assert_eq!(Scope::Usual.left_out(cell(1024, Link::Unlimited, 0), variant), None);
        }
    }
}
