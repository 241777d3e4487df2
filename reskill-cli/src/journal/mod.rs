//! The numbers of a run as it goes: `metrics.jsonl`, and what else wants them.
//!
//! All that depends on the clock stands under the key `time` of a record, so that two runs with one seed differ nowhere
//! else. TensorBoard files, the Prometheus endpoint and the live view get the same records.

pub mod prometheus;
pub mod scalars;
pub mod tensorboard;

use anyhow::Result;
use serde_json::Value;

use self::prometheus::PrometheusServer;
use self::scalars::scalars;
use self::tensorboard::EventWriter;
use crate::jsonl::JsonlWriter;
use crate::log_config::LogConfig;
use crate::output::{Shown, show};
use crate::run_dir::RunDir;

/// Everyone who wants the numbers.
#[derive(Debug)]
pub struct Journal {
    lines: JsonlWriter,
    tensorboard: Option<EventWriter>,
    prometheus: Option<PrometheusServer>,
}

impl Journal {
    /// Opens the files of a run; `len` bytes of `metrics.jsonl` are kept, and the run has come to `step`.
    ///
    /// # Errors
    /// If a file cannot be opened, or `metrics.jsonl` is shorter than `len`.
    pub fn open(
        run: &RunDir,
        config: &LogConfig,
        len: u64,
        step: u64,
        prometheus: Option<PrometheusServer>,
    ) -> Result<Journal> {
        let lines = JsonlWriter::open(&run.metrics(), len)?;
        let tensorboard =
            config.tensorboard.then(|| EventWriter::create(&run.tensorboard(), step)).transpose()?;
        Ok(Journal { lines, tensorboard, prometheus })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// If it cannot be written, e.g. because the disk is full.
    pub fn write(&mut self, record: &Value) -> Result<()> {
        self.lines.write(record)?;
        if self.tensorboard.is_some() || self.prometheus.is_some() {
            let (step, scalars) = scalars(record);
            if let Some(events) = &mut self.tensorboard {
                events.scalars(step, &scalars)?;
            }
            if let Some(server) = &self.prometheus {
                server.update(step, scalars);
            }
        }
        show(|| Shown::Record(Box::new(record.clone())));
        Ok(())
    }

    /// A remark at a step, for TensorBoard's texts.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn remark(&mut self, tag: &str, step: u64, text: &str) -> Result<()> {
        self.tensorboard.as_mut().map_or(Ok(()), |events| events.text(tag, step, text))
    }

    /// Waits until all records are on the disk.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn sync(&self) -> Result<()> {
        self.lines.sync()
    }

    /// Bytes of `metrics.jsonl`.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.lines.len()
    }

    /// Whether `metrics.jsonl` is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}
