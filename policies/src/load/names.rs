//! Names: what they may look like, that none is given twice, and that what refers to one finds it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{At, Findings};

/// Reports a name that can't stand in host names, labels and paths. `what` is a word such as `site`.
pub fn name(name: &At<String>, what: &str, findings: &mut Findings) {
    if is_name(name) {
        return;
    }
    let message = match name.len() {
        0 => format!("the name of a {what} is empty"),
        64.. => format!("the name of a {what} has {} bytes", name.len()),
        _ => format!("`{}` can't be the name of a {what}", name.value),
    };
    let diagnostic = findings.error("F0021", name.span(), message);
    diagnostic.label("expected up to 63 of a-z, 0-9 and `-`, with a letter or digit at both ends");
    let near: String =
        name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let near = near.trim_matches('-');
    if is_name(near) {
        diagnostic.help(format!("did you mean `{near}`?"));
    }
}

/// Whether a name can stand in host names, labels and paths: `^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`.
pub fn is_name(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|c| plain(*c) || *c == b'-')
        && bytes.first().copied().is_some_and(plain)
        && bytes.last().copied().is_some_and(plain)
}

/// The names that a file declares of one kind of thing.
#[derive(Debug, Clone)]
pub struct Names {
    what: &'static str,
    declared: BTreeMap<String, Range<usize>>,
}

impl Names {
    /// None yet. `what` is a word such as `site`.
    pub const fn of(what: &'static str) -> Self {
        Self { what, declared: BTreeMap::new() }
    }

    /// Takes a declared name in; reports one that is malformed or was declared before.
    pub fn declare(&mut self, declared: &At<String>, findings: &mut Findings) {
        name(declared, self.what, findings);
        if let Some(first) = self.declared.get(declared.as_str()) {
            let message = format!("there are two {}s with the name `{}`", self.what, declared.value);
            findings
                .error("F0022", declared.span(), message)
                .label("again")
                .also(first.clone(), "first here");
            return;
        }
        self.declared.insert(declared.value.clone(), declared.span());
    }

    /// Whether the name is declared; reports one that isn't.
    pub fn refer(&self, reference: &At<String>, findings: &mut Findings) -> bool {
        if self.declared.contains_key(reference.as_str()) {
            return true;
        }
        let what = self.what;
        let diagnostic =
            findings.error("F0023", reference.span(), format!("there is no {what} `{}`", reference.value));
        diagnostic.label(format!("expected the name of a {what}"));
        if self.declared.is_empty() {
            diagnostic.help(format!("this file declares no {what}"));
        } else {
            let declared = self.declared.keys().map(String::as_str);
            diagnostic.suggest(reference, &format!("{what}s in this file"), declared);
        }
        false
    }

    /// Where a name was declared.
    pub fn place(&self, name: &str) -> Option<Range<usize>> {
        self.declared.get(name).cloned()
    }
}
