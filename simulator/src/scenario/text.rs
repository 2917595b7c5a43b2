//! Files that a scenario names, from their bytes.

use std::io;
use std::path::Path;

#[cfg(feature = "parquet")]
use super::parquet;

/// The text of a file; of a Parquet file as CSV. It is one if it ends in `.parquet`, or begins as all of them do.
///
/// # Errors
/// What is no text, and Parquet that can't be read, or not by this build.
pub fn text(path: &Path, bytes: Vec<u8>) -> io::Result<String> {
    let named = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("parquet"));
    if named || bytes.starts_with(b"PAR1") {
        return parquet::as_csv(bytes);
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text in UTF-8"))
}

#[cfg(not(feature = "parquet"))]
mod parquet {
    use std::io;

    pub(super) fn as_csv(_bytes: Vec<u8>) -> io::Result<String> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this sterna was built without Parquet: build it with its feature `parquet`, or give the values as CSV",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str, bytes: &[u8]) -> String {
        text(Path::new(path), bytes.to_vec()).unwrap_err().to_string()
    }

    #[test]
    fn text_is_taken_as_it_is() {
        assert_eq!(text(Path::new("a.csv"), "time,value\n0,5 €\n".into()).unwrap(), "time,value\n0,5 €\n");
        assert_eq!(told("a.csv", &[0x31, 0xff]), "it is no text in UTF-8");
    }

    #[test]
    fn parquet_is_known_by_its_name_or_its_first_bytes() {
        let why = if cfg!(feature = "parquet") {
            "it is no Parquet that can be read"
        } else {
            "this sterna was built without Parquet: build it with its feature `parquet`"
        };
        for (path, bytes) in [("a.parquet", &b"time,value\n"[..]), ("a.Parquet", b""), ("a", b"PAR1...")] {
            let told = told(path, bytes);
            assert!(told.starts_with(why), "{told}");
        }
    }
}
