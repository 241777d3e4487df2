//! Turns as a Parquet file. The crate is used without arrow: two dozen columns of five kinds.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;

use super::rows::TurnRow;

/// Turns of a row group.
const ROW_GROUP: usize = 20_000;

/// How a column is read off a row.
enum Column {
    Long(fn(&TurnRow) -> i64),
    Real(fn(&TurnRow) -> f32),
    Truth(fn(&TurnRow) -> bool),
    Text(fn(&TurnRow) -> &str),
    MaybeText(fn(&TurnRow) -> Option<&str>),
    Texts(fn(&TurnRow) -> &[String]),
}

impl Column {
    /// Its field of the schema.
    fn field(&self, name: &str) -> String {
        match self {
            Column::Long(_) => format!("REQUIRED INT64 {name};"),
            Column::Real(_) => format!("REQUIRED FLOAT {name};"),
            Column::Truth(_) => format!("REQUIRED BOOLEAN {name};"),
            Column::Text(_) => format!("REQUIRED BYTE_ARRAY {name} (STRING);"),
            Column::MaybeText(_) => format!("OPTIONAL BYTE_ARRAY {name} (STRING);"),
            Column::Texts(_) => format!(
                "REQUIRED GROUP {name} (LIST) {{ REPEATED GROUP list {{ REQUIRED BYTE_ARRAY element (STRING); }} }}"
            ),
        }
    }

    /// Writes the column of some rows.
    fn write(&self, rows: &[TurnRow], column: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        match self {
            Column::Long(of) => {
                let values: Vec<i64> = rows.iter().map(of).collect();
                column.typed::<Int64Type>().write_batch(&values, None, None)?;
            }
            Column::Real(of) => {
                let values: Vec<f32> = rows.iter().map(of).collect();
                column.typed::<FloatType>().write_batch(&values, None, None)?;
            }
            Column::Truth(of) => {
                let values: Vec<bool> = rows.iter().map(of).collect();
                column.typed::<BoolType>().write_batch(&values, None, None)?;
            }
            Column::Text(of) => {
                let values: Vec<ByteArray> = rows.iter().map(|row| ByteArray::from(of(row))).collect();
                column.typed::<ByteArrayType>().write_batch(&values, None, None)?;
            }
            Column::MaybeText(of) => {
                let values: Vec<ByteArray> = rows.iter().filter_map(of).map(ByteArray::from).collect();
                let defined: Vec<i16> = rows.iter().map(|row| i16::from(of(row).is_some())).collect();
                column.typed::<ByteArrayType>().write_batch(&values, Some(&defined), None)?;
            }
            Column::Texts(of) => {
                let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
                for row in rows {
                    // An empty list is one entry without an element.
                    if of(row).is_empty() {
                        defined.push(0);
                        repeated.push(0);
                    }
                    for (index, text) in of(row).iter().enumerate() {
                        values.push(ByteArray::from(text.as_str()));
                        defined.push(1);
                        repeated.push(i16::from(index > 0));
                    }
                }
                column.typed::<ByteArrayType>().write_batch(&values, Some(&defined), Some(&repeated))?;
            }
        }
        Ok(())
    }
}

/// The columns, named as [`TurnRow`] names them in JSON.
const COLUMNS: [(&str, Column); 24] = [
    ("episode", Column::Long(|row| row.episode)),
    ("turn", Column::Long(|row| row.turn)),
    ("played", Column::Text(|row| &row.played)),
    ("seed", Column::Long(|row| row.seed)),
    ("step", Column::Long(|row| row.step)),
    ("group", Column::Long(|row| row.group)),
    ("arm", Column::Text(|row| &row.arm)),
    ("split", Column::Text(|row| &row.split)),
    ("task", Column::Text(|row| &row.task)),
    ("family", Column::Text(|row| &row.family)),
    ("goal", Column::Text(|row| &row.goal)),
    ("observation", Column::Text(|row| &row.observation)),
    ("admissible", Column::Texts(|row| &row.admissible)),
    ("skills", Column::Texts(|row| &row.skills)),
    ("guidance", Column::Texts(|row| &row.guidance)),
    ("reply", Column::Text(|row| &row.reply)),
    ("action", Column::MaybeText(|row| row.action.as_deref())),
    ("valid", Column::Truth(|row| row.valid)),
    ("next_observation", Column::Text(|row| &row.next_observation)),
    ("last", Column::Truth(|row| row.last)),
    ("won", Column::Truth(|row| row.won)),
    ("return", Column::Real(|row| row.return_)),
    ("score", Column::Real(|row| row.score)),
    ("fault", Column::MaybeText(|row| row.fault.as_deref())),
];

/// Writes the file.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write(path: &Path, rows: &[TurnRow]) -> Result<()> {
    let cannot = || format!("{}: cannot be written", path.display());
    let file = File::create(path).with_context(cannot)?;
    write_to(file, rows).with_context(cannot)
}

fn write_to(file: File, rows: &[TurnRow]) -> Result<(), ParquetError> {
    let fields: String = COLUMNS.iter().map(|(name, column)| column.field(name)).collect();
    let schema = Arc::new(parse_message_type(&format!("message turn {{ {fields} }}"))?);
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(file, schema, properties)?;
    for rows in rows.chunks(ROW_GROUP) {
        let mut group = writer.next_row_group()?;
        for (_, column) in &COLUMNS {
            if let Some(mut out) = group.next_column()? {
                column.write(rows, &mut out)?;
                out.close()?;
            }
        }
        group.close()?;
    }
    writer.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use reskill_envs::Outcome;
    use reskill_skills::{SkillBank, SkillEpisode, SkillId};

    use super::super::rows;
    use super::*;
    use crate::episodes::EpisodeLine;

    #[test]
    fn a_parquet_file_reads_back_as_the_rows_in_json() {
        let mut record =
            SkillEpisode::from_actions("t", "f", "g", &["go", "\u{e9}", "take"], Outcome::Success);
        record.episode.turns[0].admissible = vec!["go".into(), "stay".into()];
        record.episode.turns[2].admissible = vec!["take".into()];
        record.episode.turns[1].action = None;
        record.triggered[2] = vec![SkillId("s0000".into()), SkillId("s0001".into())];
        let line = EpisodeLine::new("training", 7, &SkillBank::default(), record);
        let expected = rows::of(&line, 5);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("turns.parquet");
        write(&path, &expected).unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let read: Vec<serde_json::Value> =
            reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_json_value()).collect();
        let expected: Vec<serde_json::Value> =
            expected.iter().map(|row| serde_json::to_value(row).unwrap()).collect();
        assert_eq!(read, expected);
    }
}
