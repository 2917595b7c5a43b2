//! Which solver, and why there is no answer.

use std::fmt;

use thiserror::Error;

/// A solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// HiGHS, single-threaded, with a fixed seed.
    #[cfg(feature = "highs")]
    Highs,
    /// Microlp, for programs of at most [`MICROLP_COLUMNS`].
    Microlp,
}

/// The largest program that microlp is asked to solve, in columns; on larger ones it finds nothing in a useful time.
pub const MICROLP_COLUMNS: usize = 300;

impl Engine {
    /// The best one that is built in.
    pub const fn built_in() -> Self {
        #[cfg(feature = "highs")]
        return Self::Highs;
        #[cfg(not(feature = "highs"))]
        Self::Microlp
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(feature = "highs")]
            Self::Highs => "highs",
            Self::Microlp => "microlp",
        })
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SolveError {
    /// The program is too large for the solver that is built in.
    #[error("{columns} columns are more than microlp can solve in time; build with the feature `highs`")]
    TooLarge {
        /// Of the program.
        columns: usize,
    },
    /// The solver failed.
    #[error("{engine}: {message}")]
    Engine {
        /// Which.
        engine: &'static str,
        /// What it said.
        message: String,
    },
}
