//! Tracks of a GPX file, each value with its place.

use std::collections::BTreeSet;
use std::ops::Range;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use roxmltree::{Document, Node, TextPos};
use sterna_policies::load::{At, Findings, Invalid};

use super::table::Rows;

/// The most parts of a file that are read: a million points with all that devices add to them.
const MOST_NODES: u32 = 30_000_000;

/// A GPX file that was read, its points not yet.
pub(super) struct Gpx<'t> {
    document: Document<'t>,
    findings: Findings,
}

impl<'t> Gpx<'t> {
    /// Reads a file as XML.
    ///
    /// # Errors
    /// What is no GPX, or has no track.
    pub(super) fn read(file: &str, text: &'t str) -> Result<Self, Invalid> {
        let mut findings = Findings::new(file, text);
        let options = roxmltree::ParsingOptions { nodes_limit: MOST_NODES, ..Default::default() };
        let document = match Document::parse_with_options(text, options) {
            Ok(document) => document,
            Err(error) => {
                let at = offset(error.pos(), text);
                findings.error("S0012", at..at, format!("the file can't be read as XML: {error}"));
                return Err(findings.into_invalid());
            }
        };
        let root = document.root_element();
        if root.tag_name().name() != "gpx" {
            findings
                .error("S0012", start_of(root), format!("this is `{}` and no GPX", root.tag_name().name()))
                .label("expected `gpx`");
        } else if children(root, "trk").next().is_none() {
            let finding =
                findings.error("S0012", start_of(root), "the file has no track").label("no `trk` in it");
            if ["rte", "wpt"].into_iter().any(|other| children(root, other).next().is_some()) {
                finding.help("only tracks are read: routes and waypoints don't say when anybody was there");
            }
        }
        Ok(Self { document, findings: findings.refuse_errors()? })
    }

    /// The names of its tracks.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        children(self.document.root_element(), "trk").filter_map(name).collect()
    }

    /// Time, latitude and longitude of each point, in order: of the tracks with a name, or of all. Of points at the same time the first
    /// counts: a segment often begins where and when the last one ended.
    ///
    /// # Errors
    /// A point that says no time or place, and times that don't rise.
    pub(super) fn points(mut self, track: Option<&str>) -> Rows<3> {
        let root = self.document.root_element();
        let wanted: Vec<Node> =
            children(root, "trk").filter(|one| track.is_none_or(|track| name(*one) == Some(track))).collect();
        let several = wanted.len() > 1;
        let mut rows = Vec::new();
        let mut last: Option<Timestamp> = None;
        let segments = wanted.iter().flat_map(|track| children(*track, "trkseg"));
        for point in segments.flat_map(|segment| children(segment, "trkpt")) {
            let Some(time) = children(point, "time").next().and_then(text) else {
                // Whoever draws a track gives no point a time: told once.
                self.findings
                    .error("S0012", start_of(point), "the point has no time")
                    .label("when were they here?")
                    .help("record the track, or export it with times: `<time>2026-03-02T07:30:00Z</time>`");
                break;
            };
            let Some(at) = instant(&time) else {
                self.findings
                    .error("S0012", time.span(), format!("`{}` is not a point in time", time.value))
                    .label("expected such as 2026-03-02T07:30:00Z");
                continue;
            };
            if last == Some(at) {
                continue;
            }
            if last.is_some_and(|last| at < last) {
                let finding = self
                    .findings
                    .error("S0012", time.span(), format!("{} is before the point above it", time.value))
                    .label("points must be in order of time");
                if several {
                    finding
                        .help("the file has several tracks: `track = \"NAME\"` in the scenario follows one");
                }
                break;
            }
            last = Some(at);
            let (Some(latitude), Some(longitude)) = (degrees(point, "lat"), degrees(point, "lon")) else {
                self.findings
                    .error("S0012", start_of(point), "the point has no place")
                    .label("expected `lat` and `lon`");
                continue;
            };
            rows.push([At { value: at.to_string(), span: time.span() }, latitude, longitude]);
        }
        if rows.is_empty() && !self.findings.has_errors() {
            let span = wanted.first().map_or(0..0, |track| start_of(*track));
            self.findings
                .error("S0012", span, "the track has no point")
                .label("no `trkpt` in a `trkseg` of it");
        }
        Ok((self.findings.refuse_errors()?, rows))
    }
}

fn children<'a, 't: 'a>(
    node: Node<'a, 't>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 't>> + use<'a, 't> {
    node.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
}

/// The text of a node, without the space around it.
fn text(node: Node<'_, '_>) -> Option<At<String>> {
    let text = node.text()?;
    let span = node.first_child().map_or(node.range(), |child| child.range());
    // Where the text is written otherwise than it reads, its whole place.
    let before = text.len() - text.trim_start().len();
    let inner = span.start + before..span.start + before + text.trim().len();
    let span = if span.len() == text.len() { inner } else { span };
    Some(At { value: text.trim().to_owned(), span })
}

fn name<'a>(track: Node<'a, '_>) -> Option<&'a str> {
    children(track, "name").next()?.text().map(str::trim)
}

fn degrees(point: Node<'_, '_>, name: &str) -> Option<At<String>> {
    let written = point.attribute_node(name)?;
    Some(At { value: written.value().trim().to_owned(), span: written.range_value() })
}

/// GPX times are of UTC; some programs leave the zone out.
fn instant(time: &At<String>) -> Option<Timestamp> {
    let without_zone = || time.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
    time.parse().ok().or_else(|| without_zone().map(|zoned| zoned.timestamp()))
}

/// The name that a node begins with.
fn start_of(node: Node<'_, '_>) -> Range<usize> {
    let start = node.range().start;
    start..start + 1 + node.tag_name().name().len()
}

/// The byte of a row and a column, both from 1.
fn offset(at: TextPos, text: &str) -> usize {
    let row = usize::try_from(at.row).unwrap_or(1).max(1) - 1;
    let column = usize::try_from(at.col).unwrap_or(1).max(1) - 1;
    let start: usize = text.split_inclusive('\n').take(row).map(str::len).sum();
    let line = text.get(start..).unwrap_or_default();
    start + line.char_indices().nth(column).map_or(line.len(), |(at, _)| at)
}
