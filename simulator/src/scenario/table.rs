//! Columns of a CSV file, each value with its place.

use std::ops::Range;

use sterna_policies::load::{At, Findings, Invalid};

/// A row's values of the columns that were asked for.
type Row<const N: usize> = [At<String>; N];
/// Rows of a file, or what is wrong with it.
pub(super) type Rows<const N: usize> = Result<(Findings, Vec<Row<N>>), Invalid>;

/// The rows of a file with these columns, in this order; other columns are passed over. Lines that begin with `#` are comments.
///
/// # Errors
/// A column that is missing, or what is no CSV.
pub(super) fn rows<const N: usize>(file: &str, text: &str, columns: [&str; N]) -> Rows<N> {
    let mut findings = Findings::new(file, text);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut rows = Vec::new();
    let mut places: Option<[usize; N]> = None;
    let mut record = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                let at = error.position().map_or(text.len(), |at| offset(at, text));
                findings.error("S0012", at..at, "the row can't be read").label(error.to_string());
                break;
            }
        }
        let start = record.position().map_or(0, |at| offset(at, text));
        let values = placed(&record, text, start);
        let Some(places) = &places else {
            let find = |column: &str| values.iter().position(|value| value.value == column);
            let found = columns.map(find);
            if let Some(missing) =
                columns.iter().zip(found).find_map(|(name, at)| at.is_none().then_some(name))
            {
                findings
                    .error("S0012", line_at(text, start), format!("there is no column `{missing}`"))
                    .label("the first row names the columns")
                    .help(format!("begin with `{}`", columns.join(",")));
                break;
            }
            places = Some(found.map(Option::unwrap_or_default));
            continue;
        };
        // The reader refuses rows of another length than the first, so the value is there.
        let of = |place: usize| {
            values.get(place).cloned().unwrap_or_else(|| At { value: String::new(), span: start..start })
        };
        rows.push(places.map(of));
    }
    if rows.is_empty() && !findings.has_errors() {
        findings
            .error("S0012", 0..0, "the file has no row")
            .label("expected the names of the columns and at least one row below them");
    }
    Ok((findings.refuse_errors()?, rows))
}

fn offset(at: &csv::Position, text: &str) -> usize {
    usize::try_from(at.byte()).unwrap_or(usize::MAX).min(text.len())
}

/// The first line at or after a byte that is neither empty nor a comment.
fn line_at(text: &str, start: usize) -> Range<usize> {
    let mut from = start;
    for line in text.get(start..).unwrap_or_default().split_inclusive('\n') {
        let content = line.trim();
        if !content.is_empty() && !content.starts_with('#') {
            return from..from + line.trim_end().len();
        }
        from += line.len();
    }
    start..start
}

/// The values of a record with their places; of one that is written with quotes, the place of its row.
fn placed(record: &csv::StringRecord, text: &str, start: usize) -> Vec<At<String>> {
    let line = line_at(text, start);
    let raw = text.get(line.clone()).unwrap_or_default();
    let mut cursor = 0;
    record
        .iter()
        .map(|value| {
            let found = raw.get(cursor..).and_then(|rest| rest.find(value));
            let span = match found {
                Some(at) if !value.is_empty() => {
                    cursor += at + value.len();
                    line.start + cursor - value.len()..line.start + cursor
                }
                _ => line.clone(),
            };
            At { value: value.to_owned(), span }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<[String; 2]> {
        let (_, rows) = rows("x.csv", text, ["time", "value"]).unwrap();
        rows.into_iter().map(|row| row.map(|at| at.value)).collect()
    }

    #[test]
    fn columns_are_found_by_name() {
        let text = "# source: somewhere\nvalue, note,time\n5, x,0h\n\n6,\"y, z\", 1h\n";
        assert_eq!(values(text), [["0h", "5"], ["1h", "6"]]);
    }

    #[test]
    fn each_value_has_its_place() {
        let text = "time,value\n0h,5\n1h,5h\n";
        let (_, rows) = rows("x.csv", text, ["time", "value"]).unwrap();
        let spans: Vec<&str> = rows.iter().flatten().map(|at| &text[at.span()]).collect();
        assert_eq!(spans, ["0h", "5", "1h", "5h"]);
        assert_eq!(rows[1][1].span().start, 19);
    }

    #[test]
    fn what_is_wrong_is_told_with_line_and_column() {
        let wrong = |text: &str| rows("x.csv", text, ["time", "value"]).unwrap_err().to_string();
        insta::assert_snapshot!(
            ["", "time,wert\n0,1\n", "time,value\n", "time,value\n0,1\n0,1,2\n"].map(wrong).join("\n")
        );
    }
}
