//! Inputs that were found, as text: hexadecimal digits, in lines; what follows a `#` says what it was.
//!
//! What was mended stays in `regressions/TARGET/NAME.hex`, and every run begins with it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Writes an input as text.
pub fn encode(input: &[u8]) -> String {
    let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    input.chunks(32).map(line).collect()
}

/// Reads an input from text.
///
/// # Errors
/// When it is not one.
pub fn decode(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits: String = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(str::chars)
        .filter(|one| !one.is_whitespace())
        .collect();
    let pair = |pair: &[u8]| match std::str::from_utf8(pair) {
        Ok(text) if pair.len() == 2 => Ok(u8::from_str_radix(text, 16)?),
        _ => bail!("an odd number of digits"),
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}

/// Reads a file of one.
///
/// # Errors
/// When it can't be read.
pub fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    decode(&text).with_context(|| file.display().to_string())
}

/// What was found in a target before, each with its file.
///
/// # Errors
/// When a file can't be read.
pub fn regressions(target: &str) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()
        .with_context(|| folder.display().to_string())?;
    files.sort();
    files.into_iter().map(|file| read(&file).map(|input| (file, input))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_written_and_read() {
        let input: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&input)).unwrap(), input);
        assert_eq!(decode("# what it was\n00 fF # here\n\n1a").unwrap(), [0, 255, 26]);
        assert!(decode("0").is_err() && decode("zz").is_err());
    }

    #[test]
    fn every_regression_belongs_to_a_target() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name();
            let name = name.to_str().unwrap();
            assert!(crate::target::named(name).is_some(), "{name}");
            assert!(!regressions(name).unwrap().is_empty(), "{name}");
        }
    }
}
