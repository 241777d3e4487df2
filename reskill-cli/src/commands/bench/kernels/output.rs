//! Lines of results: JSON, or a table.

use std::fmt::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::Bench;
use super::ceilings::Ceilings;
use super::operation::Operation;
use super::timing::{Mode, Timing};
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
    tolerance: f64,
}

impl Line {
    pub(super) fn new(
        bench: &Bench,
        ceilings: &Ceilings,
        name: &'static str,
        operation: &dyn Operation,
        mode: Mode,
        timing: Timing,
        error: f64,
    ) -> Line {
        let cost = operation.cost();
        debug_assert!(timing.rounds == bench.rounds);
        Line {
            name,
            shape: operation.shape(),
            bytes: cost.bytes as f64,
            flops: cost.flops as f64,
            mode,
            timing,
            floor: cost.floor(ceilings.bytes_per_second(), ceilings.flops_per_second),
            error,
            tolerance: operation.tolerance(),
        }
    }

    /// Whether the result is what it should be.
    pub(super) fn is_right(&self) -> bool {
        self.error <= self.tolerance
    }

    pub(super) fn flops_per_second(&self) -> f64 {
        self.flops / self.timing.median
    }

    fn shape_text(&self) -> String {
        self.shape.iter().fold(String::new(), |mut text, (letter, size)| {
            let _ = write!(text, "{}{letter}={size}", if text.is_empty() { "" } else { " " });
            text
        })
    }

    fn json(&self, bench: &Bench) -> Value {
        let shape: serde_json::Map<String, Value> =
            self.shape.iter().map(|&(letter, size)| (letter.to_string(), json!(size))).collect();
        json!({
            "bench": "kernels", "op": self.name, "shape": shape, "dtype": bench.dtype.to_string(), "mode": self.mode,
            "bytes": self.bytes, "flops": self.flops, "floor_seconds": self.floor, "seconds": self.timing,
            "fraction_of_floor": self.floor / self.timing.median,
            "gb_per_s": self.bytes / self.timing.median / 1e9, "tflops": self.flops_per_second() / 1e12,
            "error": self.error, "tolerance": self.tolerance, "right": self.is_right(),
        })
    }
}

/// Prints lines as they come.
pub(super) struct Printer<'a> {
    bench: &'a Bench,
    machine: Value,
}

impl<'a> Printer<'a> {
    pub(super) fn new(bench: &'a Bench, ceilings: &Ceilings) -> Result<Printer<'a>> {
        let printer = Printer { bench, machine: machine(bench)? };
        print_ceilings(bench, ceilings)?;
        if !bench.json {
            print_data(
                format!(
                    "\n{:<26} {:<30} {:<5} {:>11} {:>11} {:>7} {:>9} {:>9} {:>7} {:>9}\n",
                    "operation",
                    "shape",
                    "mode",
                    "median us",
                    "floor us",
                    "floor",
                    "GB/s",
                    "TFLOP/s",
                    "noise",
                    "error"
                )
                .as_bytes(),
            )?;
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
        let mode = match line.mode {
            Mode::Hot => "hot",
            Mode::Cold => "cold",
            Mode::Graph => "graph",
        };
        let text = format!(
            "{:<26} {:<30} {mode:<5} {:>11.2} {:>11.2} {:>6.1}% {:>9.2} {:>9.4} {:>6.1}% {:>9.1e}{}\n",
            line.name,
            line.shape_text(),
            line.timing.median * 1e6,
            line.floor * 1e6,
            100.0 * line.floor / line.timing.median,
            line.bytes / line.timing.median / 1e9,
            line.flops_per_second() / 1e12,
            100.0 * line.timing.noise,
            line.error,
            if line.is_right() { "" } else { "  WRONG" },
        );
        print_data(text.as_bytes())?;
        Ok(())
    }
}

/// Prints what the device does at best.
pub(super) fn print_ceilings(bench: &Bench, ceilings: &Ceilings) -> Result<()> {
    let machine = machine(bench)?;
    if bench.json {
        print_json(
            &json!({ "bench": "ceilings", "dtype": bench.dtype.to_string(), "ceilings": ceilings, "machine": machine }),
        );
        return Ok(());
    }
    let mut text = String::new();
    writeln!(text, "{}, {}, seed {}", bench.device.describe(), bench.dtype, bench.seed)?;
    writeln!(text, "{}", bench.machine())?;
    writeln!(text, "copy     {:>10.2} GB/s (read and written)", ceilings.copy_bytes_per_second / 1e9)?;
    writeln!(text, "read     {:>10.2} GB/s", ceilings.read_bytes_per_second / 1e9)?;
    writeln!(text, "product  {:>10.4} TFLOP/s", ceilings.flops_per_second / 1e12)?;
    writeln!(text, "launch   {:>10.2} us", ceilings.launch_seconds * 1e6)?;
    if let Some(seconds) = ceilings.graph_launch_seconds {
        writeln!(text, "in graph {:>10.2} us", seconds * 1e6)?;
    }
    print_data(text.as_bytes())?;
    Ok(())
}

fn machine(bench: &Bench) -> Result<Value> {
    let mut machine = serde_json::to_value(bench.machine())?;
    machine["device"] = json!(bench.device.describe());
    Ok(machine)
}
