//! A database of the benchmark: built once, read through connections that cannot write.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, Error, OpenFlags};

use super::config::SqlConfig;
use super::guard;
use super::query::{self, QueryError};
use crate::error::EnvError;

/// A column, as `DESC` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// As declared, in upper case.
    pub(crate) kind: String,
    pub(crate) nullable: bool,
    /// `PRI`, `MUL` (refers to another table) or nothing.
    pub(crate) key: &'static str,
    /// The expression of the default value.
    pub(crate) default: Option<String>,
}

/// A table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// The statement that created it.
    pub(crate) statement: String,
}

/// A database in memory. Queries run on connections that hold a copy of its image, taken and given back.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) name: String,
    /// By name, in the order of the bytes.
    pub(crate) tables: Vec<Table>,
    image: Vec<u8>,
    idle: Mutex<Vec<Connection>>,
}

impl Database {
    /// Builds a database from `<folder>/sqlite_sql/<name>.sql`, or reads `<folder>/database/<name>/<name>.sqlite`.
    ///
    /// # Errors
    /// [`EnvError::Read`] if neither is there; [`EnvError::Game`] if SQLite refuses it.
    pub(crate) fn open(folder: &Path, name: &str) -> Result<Database, EnvError> {
        let script = folder.join("sqlite_sql").join(format!("{name}.sql"));
        let file = folder.join("database").join(name).join(format!("{name}.sqlite"));
        if !script.exists() && file.exists() {
            let read = || image(&mut Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY)?);
            return Database::new(name, read, file.clone());
        }
        let text = std::fs::read_to_string(&script)
            .map_err(|source| EnvError::Read { path: script.clone(), source })?;
        let build = || {
            let mut connection = Connection::open_in_memory()?;
            guard::for_script(&mut connection)?;
            connection.execute_batch(&text)?;
            image(&mut connection)
        };
        Database::new(name, build, script)
    }

    fn new(
        name: &str,
        build: impl Fn() -> Result<(Vec<u8>, Vec<Table>), Error>,
        path: PathBuf,
    ) -> Result<Database, EnvError> {
        // A query that runs elsewhere may have taken all memory.
        let built = query::alone_if_memory_is_short(|| build().map_err(|error| QueryError::from(&error)));
        let (image, tables) = built.map_err(|error| EnvError::Game {
            path: path.clone(),
            field: "database",
            reason: error.to_string(),
        })?;
        if tables.is_empty() {
            let reason = "no tables in it".to_owned();
            return Err(EnvError::Game { path, field: "database", reason });
        }
        Ok(Database { name: name.to_owned(), tables, image, idle: Mutex::new(Vec::new()) })
    }

    /// The rows of a query, each as Python prints it.
    pub(crate) fn query(&self, sql: &str, limits: &SqlConfig) -> Result<Vec<String>, QueryError> {
        query::alone_if_memory_is_short(|| {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = match idle {
                Some(connection) => connection,
                None => self.connect().map_err(|error| QueryError::from(&error))?,
            };
            let rows = query::run(&mut connection, sql, limits)?;
            // Only a connection that has just worked is used again.
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(rows)
        })
    }

    /// The table of a name; case does not matter.
    pub(crate) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))
    }

    fn connect(&self) -> Result<Connection, Error> {
        let mut connection = Connection::open_in_memory()?;
        let size = self.image.len();
        connection.deserialize_read_exact("main", self.image.as_slice(), size, true)?;
        guard::for_queries(&mut connection)?;
        Ok(connection)
    }
}

/// The content of a database, and its tables.
fn image(connection: &mut Connection) -> Result<(Vec<u8>, Vec<Table>), Error> {
    let tables = tables(connection)?;
    Ok((connection.serialize("main")?.to_vec(), tables))
}

fn tables(connection: &Connection) -> Result<Vec<Table>, Error> {
    let mut statement = connection.prepare(
        "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         ORDER BY name",
    )?;
    let named: Vec<(String, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let with_columns = |(name, statement): (String, String)| -> Result<Table, Error> {
        let columns = columns(connection, &name)?;
        Ok(Table { name, columns, statement })
    };
    named.into_iter().map(with_columns).collect()
}

fn columns(connection: &Connection, table: &str) -> Result<Vec<Column>, Error> {
    let mut references = connection.prepare("SELECT \"from\" FROM pragma_foreign_key_list(?1)")?;
    let references: Vec<String> =
        references.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut statement =
        connection.prepare("SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info(?1)")?;
    let columns = statement.query_map([table], |row| {
        let (name, kind): (String, String) = (row.get(0)?, row.get(1)?);
        let (not_null, in_key): (bool, i64) = (row.get(2)?, row.get(4)?);
        let refers = references.iter().any(|other| other.eq_ignore_ascii_case(&name));
        let key = if in_key > 0 {
            "PRI"
        } else if refers {
            "MUL"
        } else {
            ""
        };
        let nullable = !not_null && in_key == 0;
        Ok(Column { name, kind: kind.to_uppercase(), nullable, key, default: row.get(3)? })
    })?;
    columns.collect()
}
