//! Ranking by words: an inverted index in one segment, kept by the crate `tantivy`.
//!
//! Text is split at whatever is neither letter nor digit, lower-cased, freed of accents and stemmed. All words are indexed,
//! in one field with the title, without positions; which words do not count is decided by the query, so that a query of
//! nothing else still finds something. A query is a sum over its words, which the index evaluates by block-max WAND: blocks
//! of postings that cannot reach the best scores so far are skipped.

use std::path::Path;

use tantivy::collector::TopDocs;
use tantivy::directory::MmapDirectory;
use tantivy::indexer::NoMergePolicy;
use tantivy::query::{BooleanQuery, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, STORED, Schema, TextFieldIndexing, TextOptions, Value as _};
use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer, StopWordFilter,
    TextAnalyzer,
};
use tantivy::{
    DocAddress, Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, TantivyError, Term,
};

use super::corpus::CorpusPassage;
use super::manifest::odd;
use super::read_only::ReadOnly;
use crate::error::EnvError;
use crate::search::retriever::Passage;
use crate::search::words::STOP_WORDS;

const ANALYZER: &str = "english";
/// Longer words are no words.
const MAX_WORD_BYTES: usize = 40;
/// Distinct words of a query that count: the first ones.
const MAX_QUERY_WORDS: usize = 64;
/// Unpacked blocks of passages that are kept, at some 16 KiB each.
const CACHED_BLOCKS: usize = 64;

/// The fields of a passage.
#[derive(Debug, Clone, Copy)]
struct Fields {
    /// Indexed: title and text.
    contents: Field,
    title: Field,
    text: Field,
    /// Place in the corpus; only to put segments in order.
    row: Field,
}

fn schema() -> (Schema, Fields) {
    let mut builder = Schema::builder();
    let indexing =
        TextFieldIndexing::default().set_tokenizer(ANALYZER).set_index_option(IndexRecordOption::WithFreqs);
    let fields = Fields {
        contents: builder.add_text_field("contents", TextOptions::default().set_indexing_options(indexing)),
        title: builder.add_text_field("title", STORED),
        text: builder.add_text_field("text", STORED),
        row: builder.add_u64_field("row", STORED),
    };
    (builder.build(), fields)
}

/// The analysis of passages, or that of queries, which drops the stop words.
fn analyzer(drop_stop_words: bool) -> TextAnalyzer {
    let words =
        drop_stop_words.then(|| STOP_WORDS.split_whitespace().map(str::to_owned)).into_iter().flatten();
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(MAX_WORD_BYTES))
        .filter(LowerCaser)
        .filter(StopWordFilter::remove(words))
        .filter(AsciiFoldingFilter)
        .filter(Stemmer::new(Language::English))
        .build()
}

/// Writes an index.
pub(super) struct Bm25Writer<'a> {
    dir: &'a Path,
    index: Index,
    fields: Fields,
    writer: IndexWriter,
    n_passages: u64,
}

impl<'a> Bm25Writer<'a> {
    /// A new index in an empty folder. `memory` bounds what is held before it is written, in bytes.
    pub(super) fn create(dir: &'a Path, memory: usize) -> Result<Bm25Writer<'a>, EnvError> {
        let failed = |error| failure(dir, &error);
        let (schema, fields) = schema();
        let index = Index::create_in_dir(dir, schema).map_err(failed)?;
        index.tokenizers().register(ANALYZER, analyzer(false));
        // One thread: the order of passages within a segment is that of the corpus.
        let writer: IndexWriter = index.writer_with_num_threads(1, memory).map_err(failed)?;
        writer.set_merge_policy(Box::new(NoMergePolicy));
        Ok(Bm25Writer { dir, index, fields, writer, n_passages: 0 })
    }

    pub(super) fn add(&mut self, passage: &CorpusPassage) -> Result<(), EnvError> {
        let CorpusPassage { title, text } = passage;
        let mut document = TantivyDocument::new();
        document.add_text(self.fields.contents, format!("{title}\n{text}"));
        document.add_text(self.fields.title, title);
        document.add_text(self.fields.text, text);
        document.add_u64(self.fields.row, self.n_passages);
        self.writer.add_document(document).map_err(|error| failure(self.dir, &error))?;
        self.n_passages += 1;
        Ok(())
    }

    /// Merges the segments in the order of the corpus, so that a document's number is its row.
    pub(super) fn finish(mut self) -> Result<(), EnvError> {
        let dir = self.dir;
        let failed = |error| failure(dir, &error);
        self.writer.commit().map_err(failed)?;
        let reader = manual_reader(&self.index).map_err(failed)?;
        let searcher = reader.searcher();
        let mut segments = Vec::new();
        for (ordinal, segment) in searcher.segment_readers().iter().enumerate() {
            let first: TantivyDocument = searcher.doc(DocAddress::new(ordinal as u32, 0)).map_err(failed)?;
            let row = first.get_first(self.fields.row).and_then(|value| value.as_u64()).unwrap_or(0);
            segments.push((row, segment.segment_id()));
        }
        segments.sort_unstable_by_key(|(row, _)| *row);
        if segments.len() > 1 {
            let ids: Vec<_> = segments.into_iter().map(|(_, id)| id).collect();
            self.writer.merge(&ids).wait().map_err(failed)?;
        }
        drop((searcher, reader));
        self.writer.garbage_collect_files().wait().map_err(failed)?;
        self.writer.wait_merging_threads().map_err(failed)
    }
}

/// An opened index.
pub(super) struct Bm25 {
    dir: std::path::PathBuf,
    reader: IndexReader,
    fields: Fields,
    /// Of queries, without stop words.
    significant: TextAnalyzer,
    /// Of queries that have nothing else.
    all: TextAnalyzer,
}

impl std::fmt::Debug for Bm25 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bm25").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Bm25 {
    /// Maps an index that must have one segment of so many passages.
    pub(super) fn open(dir: &Path, n_passages: u64) -> Result<Bm25, EnvError> {
        let failed = |error| failure(dir, &error);
        let (expected, fields) = schema();
        let files = MmapDirectory::open(dir).map_err(|error| failure(dir, &error.into()))?;
        let index = Index::open(ReadOnly(files)).map_err(failed)?;
        if index.schema() != expected {
            return Err(odd(dir, "has other fields than this program writes; build it again".into()));
        }
        let reader = manual_reader(&index).map_err(failed)?;
        let searcher = reader.searcher();
        let (n_segments, n_found) = (searcher.segment_readers().len(), searcher.num_docs());
        if n_segments != 1 || n_found != n_passages {
            let found = format!("has {n_found} passages in {n_segments} segments");
            return Err(odd(dir, format!("{found}, expected {n_passages} in one; build it again")));
        }
        drop(searcher);
        let (significant, all) = (analyzer(true), analyzer(false));
        Ok(Bm25 { dir: dir.to_path_buf(), reader, fields, significant, all })
    }

    /// Rows and scores of the best passages.
    pub(super) fn rank(&self, query: &str, top_k: usize) -> Result<Vec<(u64, f32)>, EnvError> {
        let mut terms = self.terms(&self.significant, query);
        if terms.is_empty() {
            terms = self.terms(&self.all, query);
        }
        if terms.is_empty() || top_k == 0 {
            return Ok(Vec::new());
        }
        let clause = |term| Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs)) as Box<dyn Query>;
        let query = BooleanQuery::union(terms.into_iter().map(clause).collect());
        let best = TopDocs::with_limit(top_k).order_by_score();
        let found =
            self.reader.searcher().search(&query, &best).map_err(|error| failure(&self.dir, &error))?;
        Ok(found.into_iter().map(|(score, address)| (u64::from(address.doc_id), score)).collect())
    }

    /// The passage of a row.
    pub(super) fn passage(&self, row: u64, score: f32) -> Result<Passage, EnvError> {
        let searcher = self.reader.searcher();
        if row >= searcher.num_docs() {
            return Err(odd(&self.dir, format!("has no passage {row}; build it again")));
        }
        let address = DocAddress::new(0, row as u32);
        let document: TantivyDocument = searcher.doc(address).map_err(|error| failure(&self.dir, &error))?;
        let field = |field| {
            let value = document.get_first(field).and_then(|value| value.as_str().map(str::to_owned));
            value.unwrap_or_default()
        };
        Ok(Passage { title: field(self.fields.title), text: field(self.fields.text), score })
    }

    /// The distinct words of a query, in their order.
    fn terms(&self, analyzer: &TextAnalyzer, query: &str) -> Vec<Term> {
        let mut terms: Vec<Term> = Vec::new();
        let mut analyzer = analyzer.clone();
        let mut tokens = analyzer.token_stream(query);
        while tokens.advance() && terms.len() < MAX_QUERY_WORDS {
            let term = Term::from_field_text(self.fields.contents, &tokens.token().text);
            if !terms.contains(&term) {
                terms.push(term);
            }
        }
        terms
    }
}

fn manual_reader(index: &Index) -> Result<IndexReader, TantivyError> {
    let builder = index.reader_builder().reload_policy(ReloadPolicy::Manual);
    builder.doc_store_cache_num_blocks(CACHED_BLOCKS).try_into()
}

fn failure(dir: &Path, error: &TantivyError) -> EnvError {
    odd(dir, format!("the word index cannot be used: {error}; build it again with `reskill-cli index build`"))
}
