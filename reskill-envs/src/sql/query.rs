//! Running one query within its limits.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, ErrorCode};

use super::config::SqlConfig;
use super::python;

/// Instructions between two looks at the limits. One can take some milliseconds at worst, see
/// [`super::guard`], and SQLite also counts the steps of preparing a query.
const INSTRUCTIONS_A_LOOK: u64 = 64;

/// What stops a query that takes too many instructions or too long.
const TOO_LONG: &str = "the query takes too long";

/// Why a query has no rows to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum QueryError {
    /// SQLite ran out of the memory that all queries share.
    Memory,
    /// Anything else, as the agent is told.
    Refused(String),
}

impl From<&Error> for QueryError {
    fn from(error: &Error) -> QueryError {
        match error.sqlite_error_code() {
            Some(ErrorCode::OutOfMemory) => QueryError::Memory,
            Some(ErrorCode::OperationInterrupted) => QueryError::Refused(TOO_LONG.to_owned()),
            _ => QueryError::Refused(message(error)),
        }
    }
}

impl std::fmt::Display for QueryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            QueryError::Memory => f.write_str("the query takes too much memory"),
            QueryError::Refused(reason) => f.write_str(reason),
        }
    }
}

/// SQLite's own words.
fn message(error: &Error) -> String {
    match error {
        Error::SqliteFailure(_, Some(message)) => message.clone(),
        Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

/// Runs a query; if memory is short, once more while no other query runs. So only a query that is too large by itself
/// fails, however large those beside it are.
pub(crate) fn alone_if_memory_is_short<T>(run: impl Fn() -> Result<T, QueryError>) -> Result<T, QueryError> {
    // One gate for the process, as SQLite has one account of memory for the process.
    static GATE: RwLock<()> = RwLock::new(());
    let first = {
        let _with_others = GATE.read().unwrap_or_else(PoisonError::into_inner);
        run()
    };
    match first {
        Err(QueryError::Memory) => {
            let _alone = GATE.write().unwrap_or_else(PoisonError::into_inner);
            run()
        }
        other => other,
    }
}

/// The rows of a query, each as Python prints it.
pub(crate) fn run(
    connection: &mut Connection,
    sql: &str,
    limits: &SqlConfig,
) -> Result<Vec<String>, QueryError> {
    let failed = |error: Error| QueryError::from(&error);
    watch(connection, limits).map_err(failed)?;
    let mut statement = connection.prepare(sql).map_err(failed)?;
    let n_columns = statement.column_count();
    if n_columns == 0 || !statement.readonly() {
        return Err(QueryError::Refused("this is no query that returns rows".to_owned()));
    }
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut found = statement.query([]).map_err(failed)?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next().map_err(failed)? {
        if rows.len() == limits.max_rows {
            return Err(QueryError::Refused(format!("the result has more than {} rows", limits.max_rows)));
        }
        let values: Vec<ValueRef<'_>> =
            (0..n_columns).map(|index| row.get_ref(index)).collect::<Result<_, _>>().map_err(failed)?;
        let text = python::tuple(&values).map_err(|column| {
            QueryError::Refused(format!("could not decode to UTF-8 column '{}'", names[column]))
        })?;
        bytes += text.len();
        if bytes > limits.max_result_bytes {
            let limit = limits.max_result_bytes;
            return Err(QueryError::Refused(format!("the result has more than {limit} bytes")));
        }
        rows.push(text);
    }
    Ok(rows)
}

/// Starts to count instructions and time.
fn watch(connection: &mut Connection, limits: &SqlConfig) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs_f64(limits.timeout_secs);
    let mut left = limits.max_instructions / INSTRUCTIONS_A_LOOK;
    let is_over = move || {
        left = left.saturating_sub(1);
        left == 0 || Instant::now() >= deadline
    };
    connection.progress_handler(INSTRUCTIONS_A_LOOK as i32, Some(is_over))
}
