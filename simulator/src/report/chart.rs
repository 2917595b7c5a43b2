//! Values over time, as an SVG picture that takes the width it is given.
//!
//! Grounds are transparent and greys are in the middle, so that a picture stands on a light page as well as on a dark one.

use plotters::prelude::*;
use thiserror::Error;

use super::axis;
use crate::clock::SimTime;

/// A picture that could not be drawn: a bug to be reported.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a picture of the report can't be drawn: {0}")]
pub struct NotDrawn(String);

/// A colour as red, green and blue.
pub type Colour = (u8, u8, u8);

/// Text, axes, and what is only to compare with.
pub const GREY: Colour = (138, 143, 152);

/// Colours that are told apart, also by most who see few; they begin anew after the last.
pub const fn colour(number: usize) -> Colour {
    // After Okabe and Ito, "Color universal design" (2008), in tones that stand on light and dark.
    const ALL: [Colour; 8] = [
        (46, 120, 210),
        (222, 134, 24),
        (20, 158, 115),
        (204, 121, 167),
        (86, 180, 233),
        (200, 90, 30),
        (150, 110, 220),
        (170, 160, 40),
    ];
    ALL[number % ALL.len()]
}

/// A value over time, constant from each instant to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its colour.
    pub colour: Colour,
    /// Times, and the value from then on; `None` where there is none.
    pub points: Vec<(SimTime, Option<f64>)>,
}

/// Twice as many units as the picture most often has pixels, because corners are at whole units.
const WIDTH: u32 = 1120;
const HEIGHT: u32 = 440;
const FONT: u32 = 32;
/// A picture is no finer than this many steps.
const FINE: usize = 600;

/// Values over time, from 0 to the highest. `title` and `describe` say for those who can't see it what it shows.
///
/// # Errors
/// When it can't be drawn.
pub fn lines(lines: &[Line], duration: SimTime, title: &str, describe: &str) -> Result<String, NotDrawn> {
    let values = lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value);
    let highest = values.fold(0.0, f64::max);
    let top = if highest > 0.0 { highest * 1.08 } else { 1.0 };
    // In steps of the axis, so that its marks are at whole numbers.
    let step = axis::step(duration) as f64;
    let steps = duration.as_nanos() as f64 / step;
    let text = draw((WIDTH, HEIGHT), |root| {
        let mut chart = ChartBuilder::on(root)
            .margin_top(14)
            .margin_right(44)
            .margin_bottom(6)
            .set_label_area_size(LabelAreaPosition::Left, 128)
            .set_label_area_size(LabelAreaPosition::Bottom, 58)
            .build_cartesian_2d(0.0..steps, 0.0..top)
            .map_err(said)?;
        let grey = rgb(GREY);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(grey.mix(0.0))
            .bold_line_style(grey.mix(0.25))
            .axis_style(grey.mix(0.6))
            .label_style(("sans-serif", FONT).into_font().color(&grey))
            .x_labels(steps as usize + 1)
            .y_labels(5)
            .x_label_formatter(&|at| axis::label(SimTime::from_nanos((at * step).round() as u64), duration))
            .y_label_formatter(&|value| number(*value, top))
            .draw()
            .map_err(said)?;
        for line in lines {
            let points: Vec<(f64, Option<f64>)> =
                line.points.iter().map(|(at, value)| (at.as_nanos() as f64 / step, *value)).collect();
            for piece in pieces(&coarse(&points, steps), steps) {
                let style = rgb(line.colour).stroke_width(4);
                chart.draw_series(LineSeries::new(piece, style)).map_err(said)?;
            }
        }
        Ok(())
    })?;
    let escaped = |text: &str| askama::filters::escape(text, askama::filters::Html).map(|it| it.to_string());
    let (title, describe) = (escaped(title).map_err(said)?, escaped(describe).map_err(said)?);
    // Right after the tag that opens the picture.
    Ok(text.replacen('>', &format!("><title>{title}</title><desc>{describe}</desc>"), 1))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(size: (u32, u32), paint: impl FnOnce(&Area<'_>) -> Result<(), NotDrawn>) -> Result<String, NotDrawn> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        paint(&root)?;
        root.present().map_err(said)?;
    }
    // It is as wide as there is room for.
    let (width, height) = size;
    Ok(text.replacen(&format!("width=\"{width}\" height=\"{height}\" "), "role=\"img\" ", 1))
}

fn said(error: impl std::fmt::Display) -> NotDrawn {
    NotDrawn(error.to_string())
}

const fn rgb((red, green, blue): Colour) -> RGBColor {
    RGBColor(red, green, blue)
}

/// As many digits as tell two labels apart.
fn number(value: f64, top: f64) -> String {
    match top {
        top if top >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        top if top >= 20.0 => format!("{value:.0}"),
        top if top >= 2.0 => format!("{value:.1}"),
        top if top >= 0.2 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// No finer than can be seen: of each step the mean over time of what is known.
fn coarse(points: &[(f64, Option<f64>)], end: f64) -> Vec<(f64, Option<f64>)> {
    if points.len() <= FINE || end <= 0.0 {
        return points.to_vec();
    }
    let step = end / FINE as f64;
    let mut means: Vec<(f64, f64)> = vec![(0.0, 0.0); FINE];
    for (index, (from, value)) in points.iter().enumerate() {
        let until = points.get(index + 1).map_or(end, |next| next.0).min(end);
        let Some(value) = value else { continue };
        let (mut at, mut slot) = (*from, (*from / step) as usize);
        while at < until {
            // Rounded, the end of a slot can lie before what should be in it: then it is the next one's.
            let ends = if slot >= FINE - 1 { until } else { ((slot + 1) as f64 * step).min(until) };
            if ends > at {
                means[slot.min(FINE - 1)].0 += value * (ends - at);
                means[slot.min(FINE - 1)].1 += ends - at;
                at = ends;
            }
            slot += 1;
        }
    }
    let mean =
        |(slot, (sum, span)): (usize, &(f64, f64))| (slot as f64 * step, (*span > 0.0).then(|| sum / span));
    means.iter().enumerate().map(mean).collect()
}

/// Steps as corners of lines, one piece for each stretch in which there is a value.
fn pieces(points: &[(f64, Option<f64>)], end: f64) -> Vec<Vec<(f64, f64)>> {
    let mut pieces: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut open = false;
    for (index, (from, value)) in points.iter().enumerate() {
        let until = points.get(index + 1).map_or(end, |next| next.0);
        let Some(value) = value else {
            open = false;
            continue;
        };
        if !open {
            pieces.push(Vec::new());
        }
        open = true;
        if let Some(piece) = pieces.last_mut() {
            piece.extend([(*from, *value), (until, *value)]);
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> SimTime {
        SimTime::from_millis(text.parse().unwrap())
    }

    #[test]
    fn a_picture_takes_the_width_it_is_given_and_says_what_it_shows() {
        let line =
            Line { colour: colour(0), points: vec![(time("0h"), Some(4.0)), (time("8h"), Some(45.0))] };
        let text = lines(&[line], time("24h"), "Latency of <b>", "up & down").unwrap();
        assert!(text.starts_with("<svg role=\"img\" viewBox=\"0 0 1120 440\""), "{}", &text[..80]);
        assert!(
            text.contains("><title>Latency of &#60;b&#62;</title><desc>up &#38; down</desc>"),
            "{}",
            &text[..300]
        );
        assert!(text.contains("polyline") && text.contains("8:00") && text.contains("24:00"), "{text}");
    }

    #[test]
    fn nothing_to_draw_is_an_empty_picture() {
        assert!(lines(&[], time("24h"), "", "").unwrap().contains("svg"));
        let unknown = Line { colour: GREY, points: vec![(time("0h"), None)] };
        assert!(lines(&[unknown], time("1h"), "", "").is_ok());
    }

    #[test]
    fn a_value_is_constant_until_the_next_and_a_gap_stays_one() {
        let points = [(0.0, Some(1.0)), (2.0, Some(3.0)), (4.0, None), (6.0, Some(2.0))];
        let expected =
            vec![vec![(0.0, 1.0), (2.0, 1.0), (2.0, 3.0), (4.0, 3.0)], vec![(6.0, 2.0), (8.0, 2.0)]];
        assert_eq!(pieces(&points, 8.0), expected);
    }

    #[test]
    fn a_long_stretch_of_one_value_has_no_gap() {
        // A point a minute, but for two hours in the evening.
        let minutes = (0..1440).filter(|minute| !(1201..1320).contains(minute));
        let points: Vec<_> =
            minutes.map(|minute| (f64::from(minute) / 240.0, Some(f64::from(minute)))).collect();
        let coarse = coarse(&points, 6.0);
        assert_eq!(coarse.len(), FINE);
        assert!(coarse.iter().all(|(_, value)| value.is_some()));
        assert_eq!(coarse[525].1, Some(1200.0));
    }

    #[test]
    fn what_can_not_be_seen_is_a_mean_over_time() {
        // 1 for three quarters of the time and 5 for one, 6000 times over.
        let points: Vec<_> = (0..12_000)
            .map(|at| {
                (f64::from(at / 2) + 0.75 * f64::from(at % 2), Some(if at % 2 == 0 { 1.0 } else { 5.0 }))
            })
            .collect();
        let coarse = coarse(&points, 6000.0);
        assert_eq!(coarse.len(), FINE);
        assert!(coarse.iter().all(|(_, value)| value.is_some_and(|value| (value - 2.0).abs() < 0.01)));
    }
}
