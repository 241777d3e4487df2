//! What helps against an error of the system, whichever command met it.

use std::io::ErrorKind;

/// A remedy for the first error of the system in the chain, if there is a common one.
#[must_use]
pub fn remedy(error: &anyhow::Error) -> Option<&'static str> {
    let kinds =
        error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    kinds.into_iter().find_map(|kind| match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some("make room on the disk"),
        ErrorKind::FileTooLarge => Some("raise the limit on the size of files (ulimit -f)"),
        ErrorKind::PermissionDenied => Some("check the permissions of the file and of its folder"),
        ErrorKind::ReadOnlyFilesystem => Some("take a folder that can be written"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_full_disk_is_found_under_what_was_being_done() {
        let full = || Err::<(), _>(std::io::Error::from(ErrorKind::StorageFull));
        let error = full().context("a: cannot be written").context("b: no checkpoint").unwrap_err();
        assert_eq!(remedy(&error), Some("make room on the disk"));
        assert_eq!(remedy(&anyhow::anyhow!("`a` = 3, expected 2")), None);
    }
}
