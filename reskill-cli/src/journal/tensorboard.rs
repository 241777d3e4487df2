//! TensorBoard event files.
//!
//! A file is a sequence of TFRecords, each one protocol buffer `Event`: `u64` length, masked CRC-32C of the length, the
//! bytes, masked CRC-32C of the bytes, all little-endian. Written here because the four messages in use are forty lines,
//! and a protocol-buffer compiler would be the largest dependency of the program.
//!
//! Source: tensorflow/core/lib/io/record_writer.cc (framing, mask), tensorflow/core/util/event.proto and
//! framework/summary.proto (field numbers).

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::journal::scalars::Scalar;

/// `SessionLog.status = START`: readers drop what an earlier file of the run says of this step and later ones.
const SESSION_START: u64 = 1;
/// `DataType.DT_STRING` of a tensor.
const DT_STRING: u64 = 7;

/// One event file, written as the run goes.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// A new file in `folder`, of a run that has come to `step`: after a resumption readers forget later steps of older files.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(folder: &Path, step: u64) -> Result<EventWriter> {
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
        let seconds = now() as u64;
        let name = |n: u32| {
            folder.join(format!("events.out.tfevents.{seconds:010}.reskill.{}.{n}", std::process::id()))
        };
        let path = (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0));
        let file = File::create(&path).with_context(|| format!("{}: cannot be made", path.display()))?;
        let mut writer = EventWriter { path, file };
        let mut first = event(0);
        bytes_field(&mut first, 3, b"brain.Event:2");
        writer.append(&[first])?;
        if step > 0 {
            let mut log = Vec::new();
            varint_field(&mut log, 1, SESSION_START);
            let mut restart = event(step + 1);
            bytes_field(&mut restart, 7, &log);
            writer.append(&[restart])?;
        }
        Ok(writer)
    }

    /// Numbers at a step.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn scalars(&mut self, step: u64, scalars: &[Scalar]) -> Result<()> {
        if scalars.is_empty() {
            return Ok(());
        }
        let mut summary = Vec::new();
        for (tag, number) in scalars {
            let mut value = Vec::new();
            bytes_field(&mut value, 1, tag.as_bytes());
            // Summary.Value.simple_value is a float.
            fixed32_field(&mut value, 2, *number as f32);
            bytes_field(&mut summary, 1, &value);
        }
        let mut event = event(step);
        bytes_field(&mut event, 5, &summary);
        self.append(&[event])
    }

    /// A text at a step; TensorBoard shows it as Markdown.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn text(&mut self, tag: &str, step: u64, text: &str) -> Result<()> {
        let (mut plugin, mut metadata) = (Vec::new(), Vec::new());
        bytes_field(&mut plugin, 1, b"text");
        bytes_field(&mut metadata, 1, &plugin);
        let (mut one, mut shape, mut tensor) = (Vec::new(), Vec::new(), Vec::new());
        varint_field(&mut one, 1, 1);
        bytes_field(&mut shape, 2, &one);
        varint_field(&mut tensor, 1, DT_STRING);
        bytes_field(&mut tensor, 2, &shape);
        bytes_field(&mut tensor, 8, text.as_bytes());
        let (mut value, mut summary) = (Vec::new(), Vec::new());
        bytes_field(&mut value, 1, tag.as_bytes());
        bytes_field(&mut value, 8, &tensor);
        bytes_field(&mut value, 9, &metadata);
        bytes_field(&mut summary, 1, &value);
        let mut event = event(step);
        bytes_field(&mut event, 5, &summary);
        self.append(&[event])
    }

    fn append(&mut self, events: &[Vec<u8>]) -> Result<()> {
        let bytes: Vec<u8> = events.iter().flat_map(|event| framed(event)).collect();
        self.file.write_all(&bytes).with_context(|| format!("{}: cannot be written", self.path.display()))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// An event of this moment: `wall_time` and `step`.
fn event(step: u64) -> Vec<u8> {
    let mut out = Vec::new();
    key(&mut out, 1, 1);
    out.extend(now().to_le_bytes());
    varint_field(&mut out, 2, step);
    out
}

/// A TFRecord.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let crc = |bytes: &[u8]| masked(crc32c(bytes)).to_le_bytes();
    [&length, crc(&length).as_slice(), bytes, &crc(bytes)].concat()
}

fn key(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_field(out: &mut Vec<u8>, field: u64, value: u64) {
    key(out, field, 0);
    varint(out, value);
}

fn bytes_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    key(out, field, 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn fixed32_field(out: &mut Vec<u8>, field: u64, value: f32) {
    key(out, field, 5);
    out.extend(value.to_le_bytes());
}

/// A CRC inside data that has a CRC itself is stored rotated and shifted.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected, bit by bit: a step has a few kilobytes.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| {
                if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The fields of a message: numbers as they are, messages as bytes.
    fn fields(mut bytes: &[u8]) -> BTreeMap<u64, Vec<Vec<u8>>> {
        fn take_varint(bytes: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let (byte, rest) = bytes.split_first().unwrap();
                *bytes = rest;
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    return value;
                }
            }
        }
        let mut found: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        while !bytes.is_empty() {
            let key = take_varint(&mut bytes);
            let content = match key & 7 {
                0 => take_varint(&mut bytes).to_le_bytes().to_vec(),
                wire_type => {
                    let length = match wire_type {
                        1 => 8,
                        5 => 4,
                        2 => take_varint(&mut bytes) as usize,
                        other => panic!("wire type {other}"),
                    };
                    let (content, rest) = bytes.split_at(length);
                    bytes = rest;
                    content.to_vec()
                }
            };
            found.entry(key >> 3).or_default().push(content);
        }
        found
    }

    /// The messages of a file, after their checksums.
    fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_at(8);
            let (crc, rest) = rest.split_at(4);
            assert_eq!(crc, masked(crc32c(length)).to_le_bytes());
            let (content, rest) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let (crc, rest) = rest.split_at(4);
            assert_eq!(crc, masked(crc32c(content)).to_le_bytes());
            records.push(content.to_vec());
            bytes = rest;
        }
        records
    }

    fn written(step: u64, write: impl Fn(&mut EventWriter)) -> Vec<BTreeMap<u64, Vec<Vec<u8>>>> {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(dir.path(), step).unwrap();
        write(&mut writer);
        let name = writer.path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with("events.out.tfevents."), "{name}");
        records(&std::fs::read(&writer.path).unwrap()).iter().map(|record| fields(record)).collect()
    }

    fn step_of(event: &BTreeMap<u64, Vec<Vec<u8>>>) -> u64 {
        u64::from_le_bytes(event[&2][0].clone().try_into().unwrap())
    }

    #[test]
    fn checksum_matches_the_published_values() {
        // RFC 3720, B.4; "123456789" is the check value of CRC-32C in the catalogue of parametrised CRCs.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn scalars_read_back_with_tag_step_and_value() {
        let long = "x".repeat(300);
        let scalars = vec![("train/success".to_string(), 0.625), (long.clone(), -3e9)];
        let events = written(0, |writer| writer.scalars(1 << 40, &scalars).unwrap());
        assert_eq!(events[0][&3], [b"brain.Event:2".to_vec()]);
        assert_eq!(step_of(&events[1]), 1 << 40);
        let wall_time = f64::from_le_bytes(events[1][&1][0].clone().try_into().unwrap());
        assert!((wall_time - now()).abs() < 60.0, "{wall_time}");
        let summary = fields(&events[1][&5][0]);
        let values: Vec<(String, f32)> = summary[&1]
            .iter()
            .map(|value| {
                let value = fields(value);
                let tag = String::from_utf8(value[&1][0].clone()).unwrap();
                (tag, f32::from_le_bytes(value[&2][0].clone().try_into().unwrap()))
            })
            .collect();
        assert_eq!(values, [("train/success".to_string(), 0.625), (long, -3e9)]);
    }

    #[test]
    fn a_run_that_goes_on_tells_readers_to_forget_later_steps() {
        let events = written(12, |_| {});
        assert_eq!((step_of(&events[1]), fields(&events[1][&7][0])[&1][0][0]), (13, 1));
        assert_eq!(written(0, |_| {}).len(), 1);
    }

    #[test]
    fn texts_carry_the_plugin_that_shows_them() {
        let events = written(0, |writer| writer.text("skills", 3, "**added** one").unwrap());
        let value = fields(&fields(&events[1][&5][0])[&1][0]);
        assert_eq!(fields(&value[&8][0])[&8], [b"**added** one".to_vec()]);
        assert_eq!(fields(&fields(&value[&9][0])[&1][0])[&1], [b"text".to_vec()]);
    }
}
