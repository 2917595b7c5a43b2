//! Failures that are asked for beside those of the scenario's file: `site/north at 9:00 for 2h`.

use std::ops::Range;

use sterna_core::continuum::{Continuum, NodeName, SiteName};
use sterna_policies::load::{At, Findings, Invalid, Written};
use sterna_policies::quantity::Millis;

use super::Scenario;
use super::faults::{self, Failing};
use super::load::known_name;
use crate::clock::SimTime;
use crate::models::fault::When;

/// Where they are asked for, as messages call it.
const FILE: &str = "--fail";
/// How they are written.
const FORM: &str =
    "write it as \"site/NAME at 9:00 for 2h\", or \"node/NAME mtbf 5d mttr 1h\" for failures by chance";

impl Scenario {
    /// Lets more fail. Each is read by itself: what (`site/NAME`, `node/NAME`, `nodes-of/SITE`, `link/SITE/SITE`), and `at TIME for
    /// SPAN`, or `mtbf SPAN mttr SPAN`. A time is a span since the start, or as reports print it, or a point in time.
    ///
    /// # Errors
    /// What is wrong with the first that is, with its place.
    pub fn inject(&mut self, asked: &[String]) -> Result<(), Invalid> {
        for text in asked {
            let mut findings = Findings::new(FILE, text);
            let read = Reader { findings: &mut findings, scenario: self }.read(text);
            findings.refuse_errors()?;
            if let Some((failing, when)) = read {
                faults::add(&mut self.chance.faults, failing.parts(&self.continuum), when, None);
                self.injected.push(text.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
        self.drawn = self.chance.draw(self, self.drawn.seed());
        Ok(())
    }
}

struct Reader<'a> {
    findings: &'a mut Findings,
    scenario: &'a Scenario,
}

impl Reader<'_> {
    /// Nothing where something is wrong, which is reported.
    fn read(&mut self, text: &str) -> Option<(Failing, When)> {
        let words = words(text);
        let place = |word: &str| words.iter().position(|one| one.value == word);
        let Some((what, rest)) = words.split_first() else {
            self.wrong(0..text.len(), "nothing is said");
            return None;
        };
        let failing = self.what(what);
        // Between two words, and after the second.
        let parts = |first: &str, second: &str| {
            let (from, to) = (place(first)?, place(second)?);
            let (one, other) = (words.get(from + 1..to)?, words.get(to + 1..)?);
            (from == 1 && !one.is_empty() && !other.is_empty())
                .then(|| [joined(text, one), joined(text, other)])
        };
        let when = if let Some([at, lasts]) = parts("at", "for") {
            let (begins, lasts) = (self.time(&at), self.span(&lasts));
            faults::once(self.findings, self.scenario.duration, (begins?, at.span()), lasts?)
        } else if let Some([mtbf, mttr]) = parts("mtbf", "mttr") {
            let (between, lasts) = (self.span(&mtbf), self.span(&mttr));
            faults::drawn(self.findings, self.scenario.duration, (between?, mtbf.span()), lasts?)?
        } else {
            let span = rest.first().zip(rest.last()).map(|(first, last)| first.span.start..last.span.end);
            self.wrong(
                span.unwrap_or(text.len()..text.len()),
                "it is not said when it fails, and for how long",
            );
            return None;
        };
        Some((failing?, when))
    }

    fn wrong(&mut self, span: Range<usize>, message: &str) {
        self.findings.error("S0019", span, message).label("here").help(FORM);
    }

    /// What fails.
    fn what(&mut self, word: &At<String>) -> Option<Failing> {
        let continuum: &Continuum = &self.scenario.continuum;
        let mut names = Vec::new();
        let mut from = word.span.start;
        for part in word.value.split('/') {
            names.push(At { value: part.to_owned(), span: from..from + part.len() });
            from += part.len() + 1;
        }
        let sites = || continuum.sites.keys().map(SiteName::as_str);
        let mut site = |name: &At<String>| {
            let name = known_name(self.findings, name, "site", sites()).map(SiteName::from)?;
            if !continuum.nodes.values().any(|node| node.site == name) && !self.scenario.allow_unused {
                self.findings
                    .error("S0015", word.span(), format!("`{name}` has no node"))
                    .label("so this has no effect");
            }
            Some(name)
        };
        let kinds: Vec<&str> = names.iter().map(|name| name.value.as_str()).collect();
        match kinds.as_slice() {
            ["site", _] => Some(Failing::Site(site(&names[1])?)),
            ["nodes-of", _] => Some(Failing::NodesOf(site(&names[1])?)),
            ["node", _] => {
                let known = continuum.nodes.keys().map(NodeName::as_str);
                Some(Failing::Node(known_name(self.findings, &names[1], "node", known).map(NodeName::from)?))
            }
            ["link", _, _] => {
                let mut end = |name| known_name(self.findings, name, "site", sites()).map(SiteName::from);
                let (a, b) = (end(&names[1]), end(&names[2]));
                let ends = [a?, b?];
                faults::no_link(self.findings, continuum, [&ends[0], &ends[1]], word.span());
                Some(Failing::Link(ends))
            }
            _ => {
                self.findings
                    .error("S0019", word.span(), format!("`{}` is nothing that fails", word.value))
                    .label("expected site/NAME, node/NAME, nodes-of/SITE or link/SITE/SITE")
                    .help(FORM);
                None
            }
        }
    }

    fn span(&mut self, text: &At<String>) -> Option<Millis> {
        Written::from(text.clone()).read_positive(self.findings)
    }

    /// A span since the start, a time as reports print it, or a point in time.
    fn time(&mut self, text: &At<String>) -> Option<SimTime> {
        let span = || {
            text.value.parse::<Millis>().ok().filter(|span| *span >= Millis::ZERO).map(SimTime::from_millis)
        };
        let on_calendar = || {
            let at: jiff::Timestamp = text.value.parse().ok()?;
            let since = at.duration_since(self.scenario.start);
            u64::try_from(since.as_nanos()).ok().map(SimTime::from_nanos)
        };
        let time = span().or_else(|| clock(&text.value)).or_else(on_calendar);
        if time.is_none() {
            self.findings
                .error("S0019", text.span(), format!("`{}` is not a time of the scenario", text.value))
                .label("expected a time since the start, such as 9:00, \"1d 9:00\" or 9h, or a point in time after it")
                .help(FORM);
        }
        time
    }
}

/// The words of a text with their places.
fn words(text: &str) -> Vec<At<String>> {
    let mut from = 0;
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        let at = text.get(from..).and_then(|rest| rest.find(word)).map_or(from, |at| from + at);
        from = at + word.len();
        words.push(At { value: word.to_owned(), span: at..from });
    }
    words
}

/// Some words as one.
fn joined(text: &str, words: &[At<String>]) -> At<String> {
    let span = words.first().map_or(0, |word| word.span.start)..words.last().map_or(0, |word| word.span.end);
    At { value: text.get(span.clone()).unwrap_or_default().to_owned(), span }
}

/// `9:00`, `9:00:30` or `1d 9:00`, as [`SimTime`] prints it.
fn clock(text: &str) -> Option<SimTime> {
    let (days, time) = match text.split_once('d') {
        Some((days, time)) => (days.trim().parse::<u32>().ok()?, time.trim()),
        None => (0, text),
    };
    let mut parts = time.split(':').map(|part| part.parse::<u32>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    if parts.next().is_some() || minutes > 59 || seconds > 59 || (days > 0 && hours > 23) {
        return None;
    }
    let seconds =
        u64::from(days) * 86_400 + u64::from(hours) * 3600 + u64::from(minutes) * 60 + u64::from(seconds);
    Some(SimTime::from_nanos(seconds * 1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_reports_print_them() {
        for text in ["9:00:00", "0:00:07", "1d 1:01:01", "100:00:00"] {
            let time = clock(text).unwrap();
            assert_eq!(clock(&time.to_string()), Some(time), "{text}");
        }
        assert_eq!(clock("09:30").unwrap().to_string(), "9:30:00");
        assert_eq!(clock("2d 9:00").unwrap().to_string(), "2d 9:00:00");
        for text in ["9", "9:60", "9:00:60", "9:00:00:00", "1d 24:00", "d 1:00", "-1:00", "", ":", "x:00"] {
            assert_eq!(clock(text), None, "{text}");
        }
    }

    #[test]
    fn words_have_their_places() {
        let text = "  site/a   at  9:00 ";
        let all = words(text);
        assert!(all.iter().all(|word| text[word.span()] == word.value));
        assert_eq!(all.len(), 3);
        assert_eq!(joined(text, &all[1..]).value, "at  9:00");
    }
}
