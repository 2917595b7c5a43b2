//! What is wrong with a file, and what would be right: findings with a code, a place and a suggestion.
//!
//! A loader collects into [`Findings`] instead of stopping at the first mistake; [`Findings::finish`] turns them into a
//! refusal ([`Invalid`]) or into a value with its warnings ([`Loaded`]). Both print like a compiler: file, line, column,
//! the line itself, a caret, and help.

use std::fmt;
use std::ops::Range;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

/// How many lines apart two places are printed together.
const NEAR: usize = 8;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file means something, but perhaps not what was wanted.
    Warning,
    /// The file is refused.
    Error,
}

/// One finding about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code: `F…` form of the file, `P…` policy, `I…` inventory, `S…` scenario, `C…` cases,
    /// `K…` calibration, `W…` warnings.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, as one sentence without a full stop.
    pub message: String,
    /// Where, in bytes of the text.
    pub span: Range<usize>,
    /// What stands under the caret.
    pub label: String,
    /// Other places that belong to it, each with its own label.
    pub also: Vec<(Range<usize>, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Sets what stands under the caret.
    pub fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = label.into();
        self
    }

    /// Points at another place that belongs to the finding.
    pub fn also(&mut self, span: Range<usize>, label: impl Into<String>) -> &mut Self {
        self.also.push((span, label.into()));
        self
    }

    /// Says what to do about it.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// All lines between two places are printed, so a place that is far off is named in words instead.
    fn far_places_into_words(&mut self, text: &str) {
        let own = line_of(text, self.span.start);
        let (near, far) = std::mem::take(&mut self.also)
            .into_iter()
            .partition::<Vec<_>, _>(|(span, _)| line_of(text, span.start).abs_diff(own) <= NEAR);
        self.also = near;
        for (span, label) in far {
            let word = if self.label.is_empty() { "" } else { "; " };
            self.label.push_str(&format!("{word}line {}: {label}", line_of(text, span.start)));
        }
    }

    /// Suggests the candidate that is spelt most alike to `word`; where none is, lists them all after `what`.
    pub fn suggest<'a>(
        &mut self,
        word: &str,
        what: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> &mut Self {
        let candidates: Vec<&str> = candidates.into_iter().collect();
        if let Some(closest) = closest(word, candidates.iter().copied()) {
            self.help = Some(format!("did you mean `{closest}`?"));
        } else if !candidates.is_empty() {
            self.help = Some(format!("{what}: {}", quoted(&candidates)));
        }
        self
    }
}

/// The candidate that is spelt most alike to `word`, if any is near enough to be what was meant.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let word = plain(word);
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &plain(candidate)), candidate))
        .filter(|(likeness, _)| *likeness > 0.82)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// `` `a`, `b` or `c` ``.
pub(crate) fn quoted(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// All findings about one file, with the file's text: prints like a compiler's output.
#[derive(Debug, Clone)]
pub struct Report {
    source: NamedSource<String>,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// The findings, in the order of the file.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// The name of the file.
    pub fn file_name(&self) -> &str {
        self.source.name()
    }

    /// Line and column of a byte of the text, both from 1; columns count characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let text = self.source.inner();
        let before = &text[..boundary(text, offset)];
        let line = line_of(text, offset);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }

    fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// The only finding, which then speaks for the whole.
    fn only(&self) -> Option<&Diagnostic> {
        match self.diagnostics.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// As it is printed, in plain characters and without colour, for files and web pages.
    pub fn plain(&self) -> String {
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::none()).with_width(120);
        let mut text = String::new();
        match handler.render_report(&mut text, self) {
            Ok(()) => text,
            Err(fmt::Error) => self.lines(),
        }
    }

    /// One line per finding, `file:line:column: error[P0012]: message (expected …); help`, for logs.
    pub fn lines(&self) -> String {
        let line = |diagnostic: &Diagnostic| {
            let (line, column) = self.position(diagnostic.span.start);
            let word = match diagnostic.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let help = diagnostic.help.as_deref().map(|help| format!("; {help}")).unwrap_or_default();
            let (file, code, message) = (self.file_name(), diagnostic.code, &diagnostic.message);
            let label = match diagnostic.label.as_str() {
                label if label.starts_with("expected") => format!(" ({label})"),
                _ => String::new(),
            };
            format!("{file}:{line}:{column}: {word}[{code}]: {message}{label}{help}")
        };
        self.diagnostics.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(only) = self.only() {
            return write!(f, "{only}");
        }
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let errors = self.count(Severity::Error);
        let warnings = self.count(Severity::Warning);
        let file = self.file_name();
        match (errors, warnings) {
            (0, warnings) => write!(f, "{file}: {}", plural(warnings, "warning")),
            (errors, 0) => write!(f, "{file}: {}", plural(errors, "error")),
            (errors, warnings) => {
                write!(f, "{file}: {} and {}", plural(errors, "error"), plural(warnings, "warning"))
            }
        }
    }
}

impl std::error::Error for Report {}

impl miette::Diagnostic for Report {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.only()?.code()
    }

    fn severity(&self) -> Option<miette::Severity> {
        let worst = self.diagnostics.iter().map(|diagnostic| diagnostic.severity).max();
        Some(match worst {
            Some(Severity::Error) => miette::Severity::Error,
            _ => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        miette::Diagnostic::help(self.only()?)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.only()?.labels()
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        if self.only().is_some() {
            return None;
        }
        Some(Box::new(self.diagnostics.iter().map(|diagnostic| diagnostic as &dyn miette::Diagnostic)))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let text = |label: &str| (!label.is_empty()).then(|| label.to_owned());
        let main = LabeledSpan::new_primary_with_span(text(&self.label), self.span.clone());
        let also =
            self.also.iter().map(move |(span, label)| LabeledSpan::new_with_span(text(label), span.clone()));
        Some(Box::new(std::iter::once(main).chain(also)))
    }
}

/// A file that was refused, with all that is wrong with it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .0.lines())]
pub struct Invalid(Box<Report>);

impl Invalid {
    /// What is wrong.
    pub fn report(&self) -> &Report {
        &self.0
    }
}

impl From<Invalid> for miette::Report {
    fn from(invalid: Invalid) -> Self {
        Self::new(*invalid.0)
    }
}

/// A value that was read, with the warnings about its file.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The value.
    pub value: T,
    /// Warnings; most often empty.
    pub warnings: Report,
}

/// Collects findings about one file.
#[derive(Debug)]
pub struct Findings {
    file_name: String,
    text: String,
    diagnostics: Vec<Diagnostic>,
}

impl Findings {
    /// None yet, about the file of that name and text.
    pub fn new(file_name: &str, text: &str) -> Self {
        Self { file_name: file_name.to_owned(), text: text.to_owned(), diagnostics: Vec::new() }
    }

    /// Adds an error at some bytes of the text; the result takes label and help.
    pub fn error(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.add(Severity::Error, code, span, message.into())
    }

    /// Adds a warning at some bytes of the text; the result takes label and help.
    pub fn warning(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.add(Severity::Warning, code, span, message.into())
    }

    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        span: Range<usize>,
        message: String,
    ) -> &mut Diagnostic {
        let label = String::new();
        self.diagnostics.push(Diagnostic {
            code,
            severity,
            message,
            span,
            label,
            also: Vec::new(),
            help: None,
        });
        let last = self.diagnostics.len() - 1;
        &mut self.diagnostics[last]
    }

    /// What stands at some bytes of the text.
    pub(crate) fn text_at(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// Whether an error is among them.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    fn into_report(mut self) -> Report {
        for diagnostic in &mut self.diagnostics {
            let also = diagnostic.also.iter_mut().map(|(span, _)| span);
            for span in std::iter::once(&mut diagnostic.span).chain(also) {
                *span = on_one_line(&self.text, span);
            }
            diagnostic.far_places_into_words(&self.text);
        }
        self.diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
        Report { source: NamedSource::new(&self.file_name, self.text), diagnostics: self.diagnostics }
    }

    /// Refuses the file.
    pub fn into_invalid(self) -> Invalid {
        Invalid(Box::new(self.into_report()))
    }

    /// Refuses the file where an error is among the findings.
    pub fn refuse_errors(self) -> Result<Self, Invalid> {
        if self.has_errors() { Err(self.into_invalid()) } else { Ok(self) }
    }

    /// The value with its warnings, or all findings where one of them is an error; then the value is dropped.
    pub fn finish<T>(self, value: T) -> Result<Loaded<T>, Invalid> {
        Ok(Loaded { value, warnings: self.refuse_errors()?.into_report() })
    }
}

/// The nearest start of a character at or before `offset`.
fn boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// The line that a byte stands in, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    text[..boundary(text, offset)].matches('\n').count() + 1
}

/// The span within the text, cut off at the end of its first line: a caret under half a page says nothing.
fn on_one_line(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = boundary(text, span.start);
    let end = boundary(text, span.end.max(start));
    let end = text[start..end].find(['\n', '\r']).map_or(end, |length| start + length);
    start..end
}
