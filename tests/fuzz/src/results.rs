//! The table of results.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

/// What came of one target.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The target.
    pub target: &'static str,
    /// Inputs that were read.
    pub cases: u64,
    /// Places in the code that genuine messages and known findings come to.
    pub at_first: u64,
    /// Those that were come to at the end.
    pub covered: u64,
    /// Inputs that were kept, each for something new.
    pub corpus: u64,
    /// How long it took.
    pub seconds: f64,
    /// What was found, each in words.
    pub found: Vec<String>,
    /// Whether time ran out before all cases were read.
    pub cut_short: bool,
}

impl Outcome {
    fn verdict(&self) -> String {
        match (self.found.len(), self.cut_short) {
            (0, false) => "clean".to_owned(),
            (0, true) => "clean, time ran out".to_owned(),
            (found, _) => format!("FOUND {found}"),
        }
    }
}

const HEADER: [&str; 7] = ["target", "cases", "coverage", "of it new", "corpus", "seconds", "verdict"];

/// The table: a row for each target.
pub fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(HEADER);
    for one in outcomes {
        table.add_row([
            one.target.to_owned(),
            one.cases.to_string(),
            one.covered.to_string(),
            one.covered.saturating_sub(one.at_first).to_string(),
            one.corpus.to_string(),
            format!("{:.1}", one.seconds),
            one.verdict(),
        ]);
    }
    for column in 1..HEADER.len() - 1 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
