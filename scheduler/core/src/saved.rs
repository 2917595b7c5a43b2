//! A plan as a file: with all that it was made from, so that it can be told whether that still holds, and what does not.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::checker::{self, Finding};
use crate::record::Recorded;

/// The format that this version writes and reads.
const FORMAT: u32 = 1;

/// A plan in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    /// The version of the format.
    format: u32,
    /// The decision that it comes from, with its inputs.
    pub recorded: Recorded,
}

/// A text that is not a plan which could be carried out.
#[derive(Debug, Error)]
pub enum SavedError {
    /// It is something else.
    #[error("it is not a plan that `sterna plan --out` wrote: {0}")]
    Form(#[from] serde_json::Error),
    /// Another version wrote it.
    #[error("it has format {found} and this program reads {known}: make the plan anew", known = FORMAT)]
    Format {
        /// Its format.
        found: u32,
    },
    /// It was changed, and is no longer a plan for what it says it was made from.
    #[error("it does not hold for its own inputs, so it was changed after it was made: {0}")]
    Changed(#[from] Finding),
}

#[derive(Deserialize)]
struct Form {
    format: u32,
}

impl SavedPlan {
    /// The plan of a decision.
    pub fn of(recorded: Recorded) -> Self {
        Self { format: FORMAT, recorded }
    }

    /// As text.
    ///
    /// # Errors
    /// When it can't be put into JSON.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// From text. What it gives has passed the [`checker`] with its own inputs.
    ///
    /// # Errors
    /// When it is no plan, or one that was changed by hand so that it breaks a rule.
    pub fn read(text: &str) -> Result<Self, SavedError> {
        let Form { format } = serde_json::from_str(text)?;
        if format != FORMAT {
            return Err(SavedError::Format { found: format });
        }
        let plan: Self = serde_json::from_str(text)?;
        let Recorded { observation, policy, decision, .. } = &plan.recorded;
        checker::check(observation, policy, &decision.plan)?;
        Ok(plan)
    }
}
