//! The audit log: where it is, how large it gets, what goes into it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Stands for no file.
const NONE: &str = "none";

/// Who did what, for those who have to answer for it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// The file; one that isn't absolute is in the state folder. `none`: there is no audit log. Default `audit.jsonl`.
    pub file: PathBuf,
    /// A file that would become larger than this, in bytes, is put aside as `.1`, and those put aside before move on. Default 64 MiB.
    pub max_bytes: u64,
    /// How many files put aside are kept; the oldest go. Default 8.
    pub keep: u32,
    /// Calls that only look are written down too. Default false: only refused ones are.
    pub reads: bool,
}

impl Default for Audit {
    fn default() -> Self {
        Self { file: PathBuf::from("audit.jsonl"), max_bytes: 64 * 1024 * 1024, keep: 8, reads: false }
    }
}

impl Audit {
    /// Where the file is, with this state folder. None: there is to be none.
    #[must_use]
    pub fn path(&self, state: &Path) -> Option<PathBuf> {
        (self.file.as_os_str() != NONE).then(|| state.join(&self.file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_the_state_folder_unless_it_says_where_it_is() {
        let path = |file: &str| Audit { file: file.into(), ..Audit::default() }.path(Path::new("/state"));
        assert_eq!(Audit::default().path(Path::new("/state")), Some("/state/audit.jsonl".into()));
        assert_eq!(path("/var/log/greenroom/audit.jsonl"), Some("/var/log/greenroom/audit.jsonl".into()));
        assert_eq!(path("none"), None);
    }
}
