//! Logs of CRIU.

use sterna_executor::engine::criu::diagnosis::{Diagnosis, KNOWN};

/// Reads a log.
pub fn read(log: &[u8]) {
    // As it is read from its file.
    let text = String::from_utf8_lossy(log);
    let diagnosis = Diagnosis::of(&text);
    assert!(diagnosis.lines.len() <= 3, "{} lines are quoted", diagnosis.lines.len());
    for line in &diagnosis.lines {
        assert!(text.lines().any(|one| one == line), "{line:?} does not stand in the log");
    }
    let shown = diagnosis.to_string();
    if let Some(known) = diagnosis.known {
        assert!(shown.starts_with(known.cause) && shown.contains(known.remedy), "{shown}");
        assert!(known.signs.iter().any(|sign| text.contains(sign)), "{} without a sign of it", known.name);
    }
}

/// A log for each error that is known, and one for none.
pub fn seeds() -> Vec<Vec<u8>> {
    let log = |signs: &[&str]| {
        format!("(00.000100) Warn  (criu/x.c:1): odd\n(00.000200) Error (criu/x.c:2): {}\n", signs.join(" "))
            .into_bytes()
    };
    KNOWN.iter().map(|known| log(known.signs)).chain([log(&["something else"]), Vec::new()]).collect()
}
