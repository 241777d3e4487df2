//! Memory-mapped files: the one place of this crate with `unsafe`.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::ModelError;

/// A file's bytes, mapped into memory and not to be written to.
#[derive(Debug)]
pub(crate) struct Mapped(Mmap);

impl Mapped {
    /// Maps a file.
    pub(crate) fn open(path: &Path) -> Result<Mapped, ModelError> {
        let failed = |source| ModelError::File { path: path.to_path_buf(), action: "read", source };
        let file = File::open(path).map_err(failed)?;
        #[expect(unsafe_code, reason = "a mapping is unsafe by nature, see below")]
        // SAFETY:
        // - the mapping is private to this type, read-only, and lives as long as its `Mmap`;
        // - another process that truncates the file while it is mapped makes reads fail with a signal, and one that
        //   writes to it changes what is read: files of weights are replaced by renaming, never written in place, and
        //   every byte pattern is a valid number.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Ok(Mapped(map))
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
