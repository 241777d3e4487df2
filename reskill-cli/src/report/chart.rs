//! Line charts as inline SVG. Colours and line styles are classes of `style.css`, so a chart follows the page's light or
//! dark scheme.

use crate::report::axis::Axis;
use crate::report::html::text;

/// Patterns that drawings refer to, once per page.
pub(super) const PATTERNS: &str = "<svg class=\"patterns\" aria-hidden=\"true\"><defs>\
     <pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
     <rect class=\"hatch-ground\" width=\"6\" height=\"6\"/><rect class=\"hatch-line\" width=\"2.2\" height=\"6\"/></pattern>\
     </defs></svg>";

/// More points than this get no hover text.
const MAX_HOVER: usize = 600;

/// Room around the plot: for the labels of the y axis, and of the x axis.
const LEFT: f64 = 40.0;
const BOTTOM: f64 = 20.0;
const TOP: f64 = 8.0;
const RIGHT: f64 = 8.0;

/// A chart under construction.
#[derive(Debug)]
pub(super) struct Chart {
    width: f64,
    height: f64,
    x: Axis,
    y: Axis,
    body: String,
}

impl Chart {
    /// An empty chart of a size in the units of the drawing; the page scales it.
    pub(super) fn new(width: f64, height: f64, x: Axis, y: Axis) -> Chart {
        Chart { width, height, x, y, body: String::new() }
    }

    /// The area between two values at each x.
    pub(super) fn band(&mut self, class: &str, points: &[(f64, f64, f64)]) {
        if points.len() < 2 {
            return;
        }
        let upper = points.iter().map(|(x, _, high)| self.at(*x, *high));
        let lower = points.iter().rev().map(|(x, low, _)| self.at(*x, *low));
        let corners: Vec<String> = upper.chain(lower).collect();
        self.body.push_str(&format!("<polygon class=\"band {class}\" points=\"{}\"/>", corners.join(" ")));
    }

    /// A line; it has a gap where a value is missing, and a dot where a value stands alone.
    pub(super) fn line(&mut self, class: &str, points: &[(f64, Option<f64>)]) {
        let known = |point: &(f64, Option<f64>)| point.1.filter(|y| y.is_finite()).map(|y| (point.0, y));
        for run in points.split(|point| known(point).is_none()) {
            let run: Vec<(f64, f64)> = run.iter().filter_map(known).collect();
            match run.as_slice() {
                [] => {}
                [only] => self.dot(class, *only, 1.6, ""),
                _ => {
                    let corners: Vec<String> = run.iter().map(|(x, y)| self.at(*x, *y)).collect();
                    self.body.push_str(&format!(
                        "<polyline class=\"line {class}\" points=\"{}\"/>",
                        corners.join(" ")
                    ));
                }
            }
        }
    }

    /// A dot with a text to hover.
    pub(super) fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64, hover: &str) {
        let (cx, cy) = (self.x_at(x), self.y_at(y));
        self.body.push_str(&format!(
            "<circle class=\"dot {class}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"{radius}\"><title>{}</title></circle>",
            text(hover)
        ));
    }

    /// An interval as a vertical line, moved sideways by `shift` so that two at one x can be told apart.
    pub(super) fn whisker(&mut self, class: &str, x: f64, (low, high): (f64, f64), shift: f64) {
        let (x, low, high) = (self.x_at(x) + shift, self.y_at(low), self.y_at(high));
        self.body.push_str(&format!("<path class=\"whisker {class}\" d=\"M{x:.1} {low:.1}V{high:.1}\"/>"));
    }

    /// A hollow diamond with a text to hover.
    pub(super) fn diamond(&mut self, class: &str, (x, y): (f64, f64), shift: f64, hover: &str) {
        let (x, y) = (self.x_at(x) + shift, self.y_at(y));
        self.body.push_str(&format!(
            "<path class=\"diamond {class}\" d=\"M{x:.1} {:.1}l4.5 4.5l-4.5 4.5l-4.5 -4.5z\"><title>{}</title></path>",
            y - 4.5,
            text(hover)
        ));
    }

    /// A vertical mark over the whole height.
    pub(super) fn vertical(&mut self, class: &str, x: f64, hover: &str) {
        let x = self.x_at(x);
        self.body.push_str(&format!(
            "<path class=\"mark {class}\" d=\"M{x:.1} {TOP}V{:.1}\"><title>{}</title></path>",
            self.height - BOTTOM,
            text(hover)
        ));
    }

    /// A horizontal line over the whole width.
    pub(super) fn horizontal(&mut self, class: &str, y: f64) {
        let y = self.y_at(y);
        self.body.push_str(&format!(
            "<path class=\"mark {class}\" d=\"M{LEFT} {y:.1}H{:.1}\"/>",
            self.width - RIGHT
        ));
    }

    /// Texts to hover, one for the column around each x. The columns lie over all that was drawn before.
    pub(super) fn hover(&mut self, columns: &[(f64, String)]) {
        if columns.len() > MAX_HOVER {
            return;
        }
        for (index, (x, hover)) in columns.iter().enumerate() {
            let middle =
                |other: usize| columns.get(other).map(|(other, _)| (self.x_at(*x) + self.x_at(*other)) / 2.0);
            let left = index.checked_sub(1).and_then(middle).unwrap_or(LEFT);
            let right = middle(index + 1).unwrap_or(self.width - RIGHT);
            self.body.push_str(&format!(
                "<rect class=\"hover\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
                (right - left).max(0.0),
                self.height - BOTTOM - TOP,
                text(hover)
            ));
        }
    }

    /// The drawing; `label` says what it shows to those who cannot see it.
    pub(super) fn finish(self, label: &str) -> String {
        let mut grid = String::new();
        let floor = self.height - BOTTOM;
        for tick in &self.y.ticks {
            let y = self.y_at(*tick);
            grid.push_str(&format!(
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/><text class=\"y\" x=\"{}\" y=\"{:.1}\">{}</text>",
                self.width - RIGHT,
                LEFT - 5.0,
                y + 3.5,
                text(&(self.y.label)(*tick)),
            ));
        }
        for tick in &self.x.ticks {
            let x = self.x_at(*tick);
            grid.push_str(&format!(
                "<path class=\"tick\" d=\"M{x:.1} {floor}v4\"/><text class=\"x\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                self.height - 4.0,
                text(&(self.x.label)(*tick)),
            ));
        }
        format!(
            "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{grid}\
             <path class=\"axis\" d=\"M{LEFT} {floor}H{}\"/>{}</svg>",
            self.width,
            self.height,
            text(label),
            self.width - RIGHT,
            self.body,
        )
    }

    fn x_at(&self, x: f64) -> f64 {
        LEFT + self.x.position(x) * (self.width - LEFT - RIGHT)
    }

    fn y_at(&self, y: f64) -> f64 {
        self.height - BOTTOM - self.y.position(y) * (self.height - BOTTOM - TOP)
    }

    fn at(&self, x: f64, y: f64) -> String {
        format!("{:.1},{:.1}", self.x_at(x), self.y_at(y))
    }
}
