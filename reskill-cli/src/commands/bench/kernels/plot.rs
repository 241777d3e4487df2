//! A roofline: operations per second over operations per byte, under what the device does at best.

use std::fmt::Write;

use clap::ValueEnum;

use super::ceilings::Ceilings;
use super::output::Line;
use super::setting::Bench;
use super::sizes::Sizes;
use super::timing::Mode;
use crate::commands::bench::figures::{figure, rate, separated};

const WIDTH: f64 = 1120.0;
/// Left, right, top of the area of the drawing, and how low it reaches at least.
const AREA: (f64, f64, f64, f64) = (80.0, 700.0, 76.0, 620.0);
/// Legend: left edge, right edge, height of a line.
const LEGEND: (f64, f64, f64) = (730.0, 1096.0, 19.0);
/// Radius of a marker.
const RADIUS: f64 = 4.5;

/// Logarithmic axes.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
    /// Lower edge of the area of the drawing.
    bottom: f64,
}

impl Axes {
    fn place(&self, intensity: f64, rate: f64) -> (f64, f64) {
        let ((left, right, top, _), bottom) = (AREA, self.bottom);
        let share = |value: f64, (low, high): (f64, f64)| (value / low).ln() / (high / low).ln();
        (left + share(intensity, self.x) * (right - left), bottom - share(rate, self.y) * (bottom - top))
    }
}

/// The drawing as SVG: one point for each operation that computes, warm, with its number in the legend.
pub(super) fn roofline(bench: &Bench, sizes: Sizes, n: usize, ceilings: &Ceilings, lines: &[Line]) -> String {
    let machine = bench.machine();
    let name = sizes.to_possible_value().map_or(String::new(), |value| value.get_name().to_string());
    // A CPU has one way only.
    let products = match bench.device.is_cpu() {
        true => String::new(),
        false => format!(", products by {}", bench.gemm.backend()),
    };
    let subtitle = format!(
        "{}, {}, {name}, {} rows{products}, commit {}, seed {}",
        bench.device.describe(),
        bench.dtype,
        separated(n),
        machine.commit(),
        bench.seed
    );
    draw(&subtitle, ceilings, lines)
}

fn draw(subtitle: &str, ceilings: &Ceilings, lines: &[Line]) -> String {
    let warm = || lines.iter().filter(|line| line.mode == Mode::Hot);
    let points: Vec<&Line> = warm().filter(|line| line.flops > 0.0).collect();
    let not_drawn: Vec<&str> = warm().filter(|line| line.flops == 0.0).map(|line| line.name).collect();
    let (bandwidth, peak) = (ceilings.bytes_per_second(), ceilings.flops_per_second);
    // Two lines of marks and a header, then the operations; the drawing is as high, and below is what is not drawn.
    let legend_bottom = AREA.2 + LEGEND.2 * (points.len() + 4) as f64;
    let bottom = AREA.3.max(legend_bottom - 50.0);
    let height = bottom + if not_drawn.is_empty() { 60.0 } else { 84.0 };
    let axes = axes(&points, bandwidth, peak, bottom);
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
         height=\"{height:.0}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\">\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    );
    titles(&mut svg, subtitle, ceilings, bottom);
    grid(&mut svg, &axes);
    roof(&mut svg, &axes, bandwidth, peak);
    let ridge = peak / bandwidth;
    let mut taken = marks(&axes, &points);
    for (index, line) in points.iter().enumerate() {
        let look = Look::new(index, points.len(), line, ridge);
        point(&mut svg, &axes, &look, line, &mut taken);
    }
    legend(&mut svg, &points, ridge);
    if !not_drawn.is_empty() {
        let text = format!("Not drawn, for they compute nothing: {}", not_drawn.join(", "));
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{:.0}\" fill=\"#555\">{}</text>",
            AREA.0,
            height - 14.0,
            escaped(&text)
        );
    }
    svg.push_str("</svg>");
    svg
}

/// How a point looks.
struct Look {
    number: usize,
    color: String,
    /// Whether arithmetic sets its floor, and not memory.
    computes: bool,
}

impl Look {
    /// Hues apart all around the circle, in three strengths.
    fn new(index: usize, n: usize, line: &Line, ridge: f64) -> Look {
        let hue = 360.0 * index as f64 / n.max(1) as f64;
        let lightness = [34, 46, 26][index % 3];
        let color = format!("hsl({hue:.0}, 70%, {lightness}%)");
        Look { number: index + 1, color, computes: line.flops / line.bytes > ridge }
    }

    /// A circle for memory, a square for arithmetic.
    fn mark(&self, (x, y): (f64, f64)) -> String {
        let color = &self.color;
        if self.computes {
            let (left, top, side) = (x - RADIUS, y - RADIUS, 2.0 * RADIUS);
            return format!(
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{side}\" height=\"{side}\" fill=\"{color}\" stroke=\"white\"/>"
            );
        }
        format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{RADIUS}\" fill=\"{color}\" stroke=\"white\"/>")
    }
}

fn titles(svg: &mut String, subtitle: &str, ceilings: &Ceilings, bottom: f64) {
    let (left, right, top, _) = AREA;
    let title = format!(
        "Roofline: {}B/s, {}FLOP/s by {}, measured",
        rate(ceilings.bytes_per_second()),
        rate(ceilings.flops_per_second),
        ceilings.matrix_by
    );
    let _ = write!(
        svg,
        "<text x=\"{left}\" y=\"28\" font-size=\"17\" font-weight=\"bold\">{}</text>\
         <text x=\"{left}\" y=\"50\" fill=\"#444\">{}</text>\
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">operations per byte</text>\
         <text x=\"22\" y=\"{middle:.0}\" transform=\"rotate(-90 22 {middle:.0})\" text-anchor=\"middle\">FLOP/s</text>",
        escaped(&title),
        escaped(subtitle),
        f64::midpoint(left, right),
        bottom + 42.0,
        middle = f64::midpoint(top, bottom)
    );
}

fn roof(svg: &mut String, axes: &Axes, bandwidth: f64, peak: f64) {
    let ridge = peak / bandwidth;
    // The slope is cut where it leaves the drawing below.
    let first = axes.x.0.max(axes.y.0 / bandwidth);
    let corners = [
        (first, first * bandwidth),
        (ridge.clamp(axes.x.0, axes.x.1), peak.min(axes.x.1 * bandwidth)),
        (axes.x.1, peak.min(axes.x.1 * bandwidth)),
    ];
    let corners: Vec<String> = corners
        .iter()
        .map(|&(x, y)| {
            let (x, y) = axes.place(x, y);
            format!("{x:.1},{y:.1}")
        })
        .collect();
    let _ = write!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#222\" stroke-width=\"2\"/>",
        corners.join(" ")
    );
}

fn axes(points: &[&Line], bandwidth: f64, peak: f64, bottom: f64) -> Axes {
    let intensities = || points.iter().map(|line| line.flops / line.bytes);
    let rates = || points.iter().map(|line| line.flops_per_second());
    let down = |value: f64| 10_f64.powf(value.log10().floor());
    let up = |value: f64| 10_f64.powf(value.log10().ceil());
    let ridge = peak / bandwidth;
    let x = (down(intensities().fold(ridge / 10.0, f64::min)), up(intensities().fold(ridge * 4.0, f64::max)));
    let y = (down(rates().fold(peak / 100.0, f64::min)), up(rates().fold(peak * 1.2, f64::max)));
    Axes { x, y, bottom }
}

fn grid(svg: &mut String, axes: &Axes) {
    let ((left, right, top, _), bottom) = (AREA, axes.bottom);
    let decades = |(low, high): (f64, f64)| {
        let (first, last) = (low.log10().round() as i32, high.log10().round() as i32);
        (first..=last).map(|power| 10_f64.powi(power))
    };
    for x in decades(axes.x) {
        let (at, _) = axes.place(x, axes.y.0);
        let _ = write!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\" fill=\"#444\">{}</text>",
            bottom + 18.0,
            digits(x)
        );
    }
    for y in decades(axes.y) {
        let (_, at) = axes.place(axes.x.0, y);
        let (unit, name) = [(1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")]
            .into_iter()
            .find(|(unit, _)| y >= unit * 0.999)
            .unwrap_or((1.0, ""));
        let _ = write!(
            svg,
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#444\">{}{name}</text>",
            left - 8.0,
            at + 4.0,
            digits(y / unit)
        );
    }
}

/// A place that is taken: its centre, half of its width and of its height.
type Taken = (f64, f64, f64, f64);

/// The places of all markers: numbers stand beside them.
fn marks(axes: &Axes, points: &[&Line]) -> Vec<Taken> {
    let place = |line: &&Line| axes.place(line.flops / line.bytes, line.flops_per_second());
    points.iter().map(place).map(|(x, y)| (x, y, RADIUS, RADIUS)).collect()
}

/// A marker with its number beside it, where there is room.
fn point(svg: &mut String, axes: &Axes, look: &Look, line: &Line, taken: &mut Vec<Taken>) {
    let at = axes.place(line.flops / line.bytes, line.flops_per_second());
    let half = if look.number < 10 { 4.0 } else { 7.0 };
    let is_free = |&(x, y): &(f64, f64)| {
        let apart = |&(tx, ty, tw, th): &Taken| (x - tx).abs() >= tw + half || (y - ty).abs() >= th + 5.5;
        taken.iter().all(apart)
            && x > AREA.0 + half
            && x < AREA.1 - half
            && y > AREA.2
            && y < axes.bottom - 6.0
    };
    // Around the marker, further and further away.
    let around = |ring: i32| {
        let distance = 13.0 + 8.0 * f64::from(ring);
        (0..12).map(move |step| {
            let angle = std::f64::consts::TAU * f64::from(step) / 12.0;
            (at.0 + distance * angle.cos(), at.1 + distance * angle.sin())
        })
    };
    let place = (0..12).flat_map(around).find(is_free).unwrap_or((at.0 + 13.0, at.1));
    taken.push((place.0, place.1, half, 5.5));
    let _ = write!(svg, "<g><title>{}</title>", escaped(&tooltip(line)));
    let (dx, dy) = (place.0 - at.0, place.1 - at.1);
    if dx.hypot(dy) > 16.0 {
        let _ = write!(
            svg,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#aaa\" stroke-width=\"0.7\"/>",
            at.0,
            at.1,
            place.0 - 7.0 * dx / dx.hypot(dy),
            place.1 - 7.0 * dy / dx.hypot(dy)
        );
    }
    let _ = write!(
        svg,
        "{}<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\" fill=\"{}\">{}</text></g>",
        look.mark(at),
        place.0,
        place.1 + 3.5,
        look.color,
        look.number
    );
}

fn tooltip(line: &Line) -> String {
    format!(
        "{} {}: {} us, {}x its floor, {}FLOP/s, {}B/s",
        line.name,
        line.shape_text(),
        figure(line.timing.median * 1e6),
        figure(line.time_over_floor()),
        rate(line.flops_per_second()),
        rate(line.bytes / line.timing.median)
    )
}

fn legend(svg: &mut String, points: &[&Line], ridge: f64) {
    let (left, right, line_height) = LEGEND;
    let y = |row: usize| AREA.2 + line_height * row as f64;
    for (row, (computes, text)) in
        [(false, "memory sets its floor"), (true, "arithmetic sets its floor")].into_iter().enumerate()
    {
        let look = Look { number: 0, color: "#777".into(), computes };
        let _ = write!(
            svg,
            "{}<text x=\"{:.0}\" y=\"{:.1}\" fill=\"#444\">{text}</text>",
            look.mark((left + 26.0, y(row) - 4.0)),
            left + 42.0,
            y(row)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.0}\" y=\"{header:.1}\" font-weight=\"bold\">operation</text>\
         <text x=\"{right}\" y=\"{header:.1}\" font-weight=\"bold\" text-anchor=\"end\">time/floor</text>",
        left + 42.0,
        header = y(3) - 4.0
    );
    for (index, line) in points.iter().enumerate() {
        let (look, at) = (Look::new(index, points.len(), line, ridge), y(index + 4) - 2.0);
        let wrong = if line.is_right() { "" } else { " (wrong)" };
        let _ = write!(
            svg,
            "<g><title>{}</title><text x=\"{:.0}\" y=\"{at:.1}\" text-anchor=\"end\" fill=\"{}\">{}</text>{}\
             <text x=\"{:.0}\" y=\"{at:.1}\">{}{wrong}</text>\
             <text x=\"{right}\" y=\"{at:.1}\" text-anchor=\"end\">{}x</text></g>",
            escaped(&tooltip(line)),
            left + 16.0,
            look.color,
            look.number,
            look.mark((left + 26.0, at - 4.0)),
            left + 42.0,
            escaped(line.name),
            figure(line.time_over_floor())
        );
    }
}

/// Text as it may stand in XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Three significant digits at most, without an exponent.
fn digits(value: f64) -> String {
    let places = (2 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ridge_lies_where_both_roofs_meet() {
        let axes = Axes { x: (0.1, 1000.0), y: (1e9, 1e13), bottom: 620.0 };
        // Two of four decades each way.
        assert_eq!(axes.place(10.0, 1e11), (390.0, 348.0));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([digits(1234.5), digits(0.1), digits(12.34), digits(3.0)], ["1234", "0.1", "12.3", "3"]);
        assert_eq!(escaped("a<b & c"), "a&lt;b &amp; c");
    }
}
