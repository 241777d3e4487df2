//! Lines of results: JSON, or a table.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::ceilings::Ceilings;
use super::operation::Operation;
use super::setting::Bench;
use super::timing::{Mode, Timing};
use crate::commands::bench::figures::{figure, percent, rate, separated};
use crate::commands::bench::print_json;
use crate::progress::print_data;

/// One case in one mode.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: &'static str,
    shape: Vec<(&'static str, usize)>,
    pub(super) bytes: f64,
    pub(super) flops: f64,
    pub(super) mode: Mode,
    pub(super) timing: Timing,
    /// Seconds of the least work at the ceilings.
    pub(super) floor: f64,
    pub(super) error: f64,
    /// Elements of the result that are no numbers and should be.
    pub(super) not_finite: usize,
    tolerance: f64,
}

impl Line {
    /// A case that has not been judged yet.
    pub(super) fn new(
        ceilings: &Ceilings,
        name: &'static str,
        operation: &dyn Operation,
        mode: Mode,
        timing: Timing,
    ) -> Line {
        let cost = operation.cost();
        Line {
            name,
            shape: operation.shape(),
            bytes: cost.bytes as f64,
            flops: cost.flops as f64,
            mode,
            timing,
            floor: cost.floor(ceilings.bytes_per_second(), ceilings.flops_per_second),
            error: f64::NAN,
            not_finite: 0,
            tolerance: operation.tolerance(),
        }
    }

    /// Whether the result is what it should be.
    pub(super) fn is_right(&self) -> bool {
        self.error <= self.tolerance && self.not_finite == 0
    }

    pub(super) fn flops_per_second(&self) -> f64 {
        self.flops / self.timing.median
    }

    /// How many times as long it took as its floor.
    pub(super) fn time_over_floor(&self) -> f64 {
        self.timing.median / self.floor
    }

    pub(super) fn shape_text(&self) -> String {
        self.shape.iter().fold(String::new(), |mut text, (letter, size)| {
            let _ = write!(text, "{}{letter}={}", if text.is_empty() { "" } else { " " }, separated(*size));
            text
        })
    }

    fn json(&self, bench: &Bench) -> Value {
        let shape: serde_json::Map<String, Value> =
            self.shape.iter().map(|&(letter, size)| (letter.to_string(), json!(size))).collect();
        json!({
            "bench": "kernels", "op": self.name, "shape": shape, "dtype": bench.dtype.to_string(), "mode": self.mode,
            "bytes": self.bytes, "flops": self.flops, "floor_seconds": self.floor, "seconds": self.timing,
            "fraction_of_floor": self.floor / self.timing.median, "time_over_floor": self.time_over_floor(),
            "gb_per_s": self.bytes / self.timing.median / 1e9, "tflops": self.flops_per_second() / 1e12,
            "error": self.error, "tolerance": self.tolerance, "not_finite": self.not_finite,
            "right": self.is_right(),
        })
    }

    fn row(&self) -> String {
        let mode = match self.mode {
            Mode::Hot => "hot",
            Mode::Cold => "cold",
            Mode::Graph => "graph",
        };
        let verdict = match (self.is_right(), self.not_finite) {
            (true, _) => String::new(),
            (false, 0) => format!("  WRONG: expected an error of at most {:.0e}", self.tolerance),
            (false, n) => format!("  WRONG: {} elements are no numbers", separated(n)),
        };
        format!(
            "{:<30} {:<36} {mode:<5} {:>13} {:>11} {:>10} {:>10} {:>10} {:>8} {:>9.1e}{verdict}\n",
            self.name,
            self.shape_text(),
            figure(self.timing.median * 1e6),
            figure(self.floor * 1e6),
            format!("{}x", figure(self.time_over_floor())),
            rate(self.bytes / self.timing.median),
            rate(self.flops_per_second()),
            percent(self.timing.noise),
            self.error,
        )
    }
}

/// A case that was not measured, as a line of JSON whose keys are in this order: scripts look for the name before the reason.
#[derive(Serialize)]
struct LeftOut<'a> {
    bench: &'static str,
    op: &'a str,
    left_out: &'a str,
    shape: Value,
    dtype: String,
    machine: &'a Value,
}

/// Prints lines as they come.
pub(super) struct Printer<'a> {
    bench: &'a Bench,
    machine: Value,
}

impl<'a> Printer<'a> {
    pub(super) fn new(bench: &'a Bench, ceilings: &Ceilings) -> Result<Printer<'a>> {
        let printer = Printer { bench, machine: machine_json(bench)? };
        print_ceilings(bench, ceilings)?;
        if !bench.json {
            let header = format!(
                "\n{:<30} {:<36} {:<5} {:>13} {:>11} {:>10} {:>10} {:>10} {:>8} {:>9}\n",
                "operation",
                "shape",
                "mode",
                "median us",
                "floor us",
                "time/floor",
                "byte/s",
                "FLOP/s",
                "noise",
                "error"
            );
            print_data(header.as_bytes())?;
        }
        Ok(printer)
    }

    pub(super) fn print(&mut self, line: &Line) -> Result<()> {
        if self.bench.json {
            let mut json = line.json(self.bench);
            json["machine"] = self.machine.clone();
            print_json(&json);
            return Ok(());
        }
        print_data(line.row().as_bytes())?;
        Ok(())
    }

    /// A case that cannot be measured here.
    pub(super) fn print_left_out(&mut self, name: &str, reason: &str) -> Result<()> {
        if self.bench.json {
            let line = LeftOut {
                bench: "kernels",
                op: name,
                left_out: reason,
                shape: json!({}),
                dtype: self.bench.dtype.to_string(),
                machine: &self.machine,
            };
            print_data(format!("{}\n", serde_json::to_string(&line)?).as_bytes())?;
            return Ok(());
        }
        print_data(format!("{name:<30} left out: {reason}\n").as_bytes())?;
        Ok(())
    }
}

/// Prints what the device does at best.
pub(super) fn print_ceilings(bench: &Bench, ceilings: &Ceilings) -> Result<()> {
    if bench.json {
        let machine = machine_json(bench)?;
        print_json(
            &json!({ "bench": "ceilings", "dtype": bench.dtype.to_string(), "ceilings": ceilings, "machine": machine }),
        );
        return Ok(());
    }
    let mut text = String::new();
    writeln!(text, "{}, {}, seed {}", bench.device.describe(), bench.dtype, bench.seed)?;
    writeln!(text, "{}", bench.machine())?;
    writeln!(text, "copy     {:>10}B/s (read and written)", rate(ceilings.copy_bytes_per_second))?;
    writeln!(text, "read     {:>10}B/s", rate(ceilings.read_bytes_per_second))?;
    for (name, flops) in &ceilings.matrix_rates {
        let note = if *name == ceilings.matrix_by { " (sets the floors)" } else { "" };
        writeln!(text, "product  {:>10}FLOP/s by {name}{note}", rate(*flops))?;
    }
    writeln!(text, "launch   {:>10} us", figure(ceilings.launch_seconds * 1e6))?;
    if let Some(seconds) = ceilings.graph_launch_seconds {
        writeln!(text, "in graph {:>10} us", figure(seconds * 1e6))?;
    }
    print_data(text.as_bytes())?;
    Ok(())
}

/// Where a line was measured.
pub(super) fn machine_json(bench: &Bench) -> Result<Value> {
    Ok(serde_json::to_value(bench.machine())?)
}
