//! Products, queries and labels, as the public files hold them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Terminator, WriterBuilder};

use crate::error::EnvError;

/// What people said of a product for a query, from worst to best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Label {
    /// It is something else.
    Irrelevant,
    /// It is near what was asked for.
    Partial,
    /// It is what was asked for.
    Exact,
}

impl Label {
    /// All labels, from worst to best.
    pub const ALL: [Label; 3] = [Label::Irrelevant, Label::Partial, Label::Exact];

    /// The word for it in the files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Label::Irrelevant => "Irrelevant",
            Label::Partial => "Partial",
            Label::Exact => "Exact",
        }
    }
}

/// A product.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Product {
    /// Name.
    pub name: String,
    /// Class, e.g. `Beds`; several are joined by `|`; may be empty.
    pub class: String,
    /// Where it stands in the shop, e.g. `Furniture / Bedroom Furniture / Beds`; may be empty.
    pub category: String,
    /// Description; may be empty.
    pub description: String,
    /// Features, `key : value` joined by `|`; may be empty.
    pub features: String,
}

/// What a shopper typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// The words.
    pub text: String,
    /// The class of products that was meant; may be empty.
    pub class: String,
}

/// Products, queries, and which products were labelled for which query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// By id.
    pub products: HashMap<u64, Product>,
    /// By id.
    pub queries: BTreeMap<u64, Query>,
    /// By query: products with their labels, in the order of the file.
    pub labels: BTreeMap<u64, Vec<(u64, Label)>>,
}

impl Catalogue {
    /// Reads `product.csv`, `query.csv` and `label.csv` of a folder.
    ///
    /// # Errors
    /// As [`Catalogue::read`].
    pub fn open(folder: &Path) -> Result<Catalogue, EnvError> {
        let [products, queries, labels] =
            ["product.csv", "query.csv", "label.csv"].map(|name| folder.join(name));
        Catalogue::read(&products, &queries, &labels)
    }

    /// Reads the three files: columns are separated by tabs and known by the names in the first line; a field that begins
    /// with a double quote ends with one and may hold tabs and line ends.
    ///
    /// - products: `product_id`, `product_name`, `product_class`; if there, `category hierarchy`, `product_description`,
    ///   `product_features`
    /// - queries: `query_id`, `query`, `query_class`
    /// - labels: `query_id`, `product_id`, `label`
    ///
    /// # Errors
    /// [`EnvError::Read`]; [`EnvError::Game`] names the file, the column and the line of what is missing, is no number, is no
    /// label, or refers to nothing.
    pub fn read(products: &Path, queries: &Path, labels: &Path) -> Result<Catalogue, EnvError> {
        let mut catalogue = Catalogue::default();
        let mut file = Rows::open(products)?;
        let columns = file.columns(["product_id", "product_name", "product_class"])?;
        let more =
            ["category hierarchy", "product_description", "product_features"].map(|name| file.column(name));
        while let Some(row) = file.next()? {
            let id = file.number(&row, "product_id", columns[0])?;
            let optional = |index: usize| more[index].map_or(String::new(), |column| text(&row, column));
            let product = Product {
                name: text(&row, columns[1]),
                class: text(&row, columns[2]),
                category: optional(0),
                description: optional(1),
                features: optional(2),
            };
            if catalogue.products.insert(id, product).is_some() {
                return Err(file.wrong("product_id", &row, format!("{id} stands here a second time")));
            }
        }
        let mut file = Rows::open(queries)?;
        let columns = file.columns(["query_id", "query", "query_class"])?;
        while let Some(row) = file.next()? {
            let id = file.number(&row, "query_id", columns[0])?;
            let query = Query { text: text(&row, columns[1]), class: text(&row, columns[2]) };
            if query.text.is_empty() {
                return Err(file.wrong("query", &row, "the query is empty".to_owned()));
            }
            if catalogue.queries.insert(id, query).is_some() {
                return Err(file.wrong("query_id", &row, format!("{id} stands here a second time")));
            }
        }
        catalogue.read_labels(labels)?;
        Ok(catalogue)
    }

    fn read_labels(&mut self, path: &Path) -> Result<(), EnvError> {
        let mut file = Rows::open(path)?;
        let columns = file.columns(["query_id", "product_id", "label"])?;
        while let Some(row) = file.next()? {
            let query = file.number(&row, "query_id", columns[0])?;
            let product = file.number(&row, "product_id", columns[1])?;
            let word = text(&row, columns[2]);
            let Some(label) = Label::ALL.into_iter().find(|label| label.as_str() == word) else {
                let reason = format!("`{word}`, expected Exact, Partial or Irrelevant");
                return Err(file.wrong("label", &row, reason));
            };
            if !self.queries.contains_key(&query) {
                return Err(file.wrong("query_id", &row, format!("there is no query {query}")));
            }
            if !self.products.contains_key(&product) {
                return Err(file.wrong("product_id", &row, format!("there is no product {product}")));
            }
            self.labels.entry(query).or_default().push((product, label));
        }
        Ok(())
    }

    /// Writes the three files into a folder, where [`Catalogue::open`] reads them.
    ///
    /// # Errors
    /// [`EnvError::Write`].
    pub fn write(&self, folder: &Path) -> Result<(), EnvError> {
        let mut ids: Vec<&u64> = self.products.keys().collect();
        ids.sort_unstable();
        let products = ids.into_iter().map(|id| {
            let Product { name, class, category, description, features } = &self.products[id];
            let id = id.to_string();
            [&id, name, class, category, description, features].map(String::clone).to_vec()
        });
        let names = [
            "product_id",
            "product_name",
            "product_class",
            "category hierarchy",
            "product_description",
            "product_features",
        ];
        write_rows(&folder.join("product.csv"), &names, products)?;
        let queries = self
            .queries
            .iter()
            .map(|(id, query)| vec![id.to_string(), query.text.clone(), query.class.clone()]);
        write_rows(&folder.join("query.csv"), &["query_id", "query", "query_class"], queries)?;
        let labels =
            self.labels.iter().flat_map(|(query, labelled)| labelled.iter().map(move |one| (query, one)));
        let labels = labels.enumerate().map(|(id, (query, (product, label)))| {
            vec![id.to_string(), query.to_string(), product.to_string(), label.as_str().to_owned()]
        });
        write_rows(&folder.join("label.csv"), &["id", "query_id", "product_id", "label"], labels)
    }
}

/// A file of rows, with what is needed to say where something is wrong.
struct Rows {
    path: PathBuf,
    header: StringRecord,
    reader: csv::Reader<std::fs::File>,
}

impl Rows {
    fn open(path: &Path) -> Result<Rows, EnvError> {
        let file =
            std::fs::File::open(path).map_err(|source| EnvError::Read { path: path.to_owned(), source })?;
        let mut reader = ReaderBuilder::new().delimiter(b'\t').from_reader(file);
        let header = reader.headers().cloned().map_err(|error| broken(path, &error))?;
        Ok(Rows { path: path.to_owned(), header, reader })
    }

    /// The place of a column. A blank in its name may be an underscore.
    fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column.trim().replace('_', " ") == name.replace('_', " "))
    }

    fn columns<const N: usize>(&self, names: [&'static str; N]) -> Result<[usize; N], EnvError> {
        let mut places = [0; N];
        for (place, name) in places.iter_mut().zip(names) {
            *place = self.column(name).ok_or_else(|| {
                let found: Vec<&str> = self.header.iter().collect();
                let reason = format!("no such column in the first line; there are {}", found.join(", "));
                EnvError::Game { path: self.path.clone(), field: name, reason }
            })?;
        }
        Ok(places)
    }

    fn next(&mut self) -> Result<Option<StringRecord>, EnvError> {
        let mut row = StringRecord::new();
        let is_there = self.reader.read_record(&mut row).map_err(|error| broken(&self.path, &error))?;
        Ok(is_there.then_some(row))
    }

    fn number(&self, row: &StringRecord, name: &'static str, column: usize) -> Result<u64, EnvError> {
        let field = text(row, column);
        field.parse().map_err(|_| self.wrong(name, row, format!("`{field}` is no number")))
    }

    fn wrong(&self, field: &'static str, row: &StringRecord, reason: String) -> EnvError {
        let line = row.position().map_or(0, csv::Position::line);
        EnvError::Game { path: self.path.clone(), field, reason: format!("line {line}: {reason}") }
    }
}

fn text(row: &StringRecord, column: usize) -> String {
    row.get(column).unwrap_or_default().trim().to_owned()
}

fn broken(path: &Path, error: &csv::Error) -> EnvError {
    EnvError::Game { path: path.to_owned(), field: "row", reason: error.to_string() }
}

fn write_rows(path: &Path, header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Result<(), EnvError> {
    let failed = |error: csv::Error| EnvError::Write { path: path.to_owned(), source: error.into() };
    let mut writer = WriterBuilder::new()
        .delimiter(b'\t')
        .terminator(Terminator::Any(b'\n'))
        .from_path(path)
        .map_err(failed)?;
    writer.write_record(header).map_err(failed)?;
    for row in rows {
        writer.write_record(row).map_err(failed)?;
    }
    writer.flush().map_err(|source| EnvError::Write { path: path.to_owned(), source })
}
