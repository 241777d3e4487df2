//! A roofline: operations per second over operations per byte, under what the device does at best.

use std::fmt::Write;

use super::ceilings::Ceilings;
use super::output::Line;
use super::timing::Mode;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 620.0;
/// Left, right, top, bottom of the area of the drawing.
const AREA: (f64, f64, f64, f64) = (80.0, 640.0, 40.0, 560.0);
const COLORS: [&str; 8] =
    ["#1b6ca8", "#c8553d", "#3a7d44", "#8e4162", "#b8860b", "#4b3f72", "#2a9d8f", "#6b705c"];

/// Logarithmic axes.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
}

impl Axes {
    fn place(&self, intensity: f64, rate: f64) -> (f64, f64) {
        let (left, right, top, bottom) = AREA;
        let share = |value: f64, (low, high): (f64, f64)| (value / low).ln() / (high / low).ln();
        (left + share(intensity, self.x) * (right - left), bottom - share(rate, self.y) * (bottom - top))
    }
}

/// The drawing as SVG: one point an operation that computes, from its first mode, with its number in the legend.
pub(super) fn roofline(ceilings: &Ceilings, lines: &[Line]) -> String {
    let points: Vec<&Line> = lines.iter().filter(|line| line.mode == Mode::Hot && line.flops > 0.0).collect();
    let bandwidth = ceilings.bytes_per_second();
    let peak = ceilings.flops_per_second;
    let axes = axes(&points, bandwidth, peak);
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    );
    grid(&mut svg, &axes);
    let ridge = peak / bandwidth;
    let roof = [
        (axes.x.0, axes.x.0 * bandwidth),
        (ridge.clamp(axes.x.0, axes.x.1), peak.min(axes.x.1 * bandwidth)),
        (axes.x.1, peak.min(axes.x.1 * bandwidth)),
    ];
    let roof: Vec<String> = roof
        .iter()
        .map(|&(x, y)| {
            let (x, y) = axes.place(x, y.max(axes.y.0));
            format!("{x:.1},{y:.1}")
        })
        .collect();
    let _ = write!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#222\" stroke-width=\"2\"/>",
        roof.join(" ")
    );
    for (index, line) in points.iter().enumerate() {
        point(&mut svg, &axes, index, line);
    }
    let (left, _, top, bottom) = AREA;
    let _ = write!(
        svg,
        "<text x=\"{left}\" y=\"24\" font-size=\"14\">Roofline: {} GB/s, {} TFLOP/s measured</text>\
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">operations per byte</text>\
         <text x=\"20\" y=\"{:.0}\" transform=\"rotate(-90 20 {:.0})\" text-anchor=\"middle\">GFLOP/s</text></svg>",
        digits(bandwidth / 1e9),
        digits(peak / 1e12),
        f64::midpoint(left, AREA.1),
        bottom + 40.0,
        f64::midpoint(top, bottom),
        f64::midpoint(top, bottom)
    );
    svg
}

fn axes(points: &[&Line], bandwidth: f64, peak: f64) -> Axes {
    let intensities = || points.iter().map(|line| line.flops / line.bytes);
    let rates = || points.iter().map(|line| line.flops_per_second());
    let down = |value: f64| 10_f64.powf(value.log10().floor());
    let up = |value: f64| 10_f64.powf(value.log10().ceil());
    let ridge = peak / bandwidth;
    let x = (down(intensities().fold(ridge / 10.0, f64::min)), up(intensities().fold(ridge * 4.0, f64::max)));
    let y = (down(rates().fold(peak / 100.0, f64::min)), up(rates().fold(peak * 1.2, f64::max)));
    Axes { x, y }
}

fn grid(svg: &mut String, axes: &Axes) {
    let (left, right, top, bottom) = AREA;
    let decades = |(low, high): (f64, f64)| {
        let (first, last) = (low.log10().round() as i32, high.log10().round() as i32);
        (first..=last).map(|power| 10_f64.powi(power))
    };
    for x in decades(axes.x) {
        let (at, _) = axes.place(x, axes.y.0);
        let _ = write!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            digits(x)
        );
    }
    for y in decades(axes.y) {
        let (_, at) = axes.place(axes.x.0, y);
        let _ = write!(
            svg,
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            at + 4.0,
            digits(y / 1e9)
        );
    }
}

fn point(svg: &mut String, axes: &Axes, index: usize, line: &Line) {
    let (x, y) = axes.place(line.flops / line.bytes, line.flops_per_second());
    let color = COLORS[index % COLORS.len()];
    let legend = 60.0 + 20.0 * index as f64;
    let _ = write!(
        svg,
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"8\" fill=\"{color}\"/>\
         <text x=\"{x:.1}\" y=\"{:.1}\" fill=\"white\" font-size=\"9\" text-anchor=\"middle\">{}</text>\
         <circle cx=\"664\" cy=\"{legend}\" r=\"8\" fill=\"{color}\"/>\
         <text x=\"664\" y=\"{:.1}\" fill=\"white\" font-size=\"9\" text-anchor=\"middle\">{}</text>\
         <text x=\"680\" y=\"{:.1}\">{}: {:.0} % of its floor</text>",
        y + 3.0,
        index + 1,
        legend + 3.0,
        index + 1,
        legend + 4.0,
        line.name,
        100.0 * line.floor / line.timing.median
    );
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
        let axes = Axes { x: (0.1, 1000.0), y: (1e9, 1e13) };
        // Two of four decades each way.
        assert_eq!(axes.place(10.0, 1e11), (360.0, 300.0));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([digits(1234.5), digits(0.1), digits(12.34), digits(3.0)], ["1234", "0.1", "12.3", "3"]);
    }
}
