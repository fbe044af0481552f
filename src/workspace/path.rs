//! A path that a user gave, checked before it meets a file system. It says where below the workspace something is; whether the way there
//! stays inside is the kernel's to say.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use super::fault::FileError;

/// The longest path, in bytes.
pub(super) const PATH_MAX: usize = 4096;

/// Names joined by slashes; none at all: the workspace itself. No name is `.` or `..`, empty, or has a zero byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath(PathBuf);

impl FilePath {
    /// The workspace itself.
    #[must_use]
    pub fn root() -> Self {
        Self(PathBuf::new())
    }

    /// Checks and takes a path.
    ///
    /// # Errors
    /// [`FileError::Invalid`] says which rule it breaks.
    pub fn parse(path: &[u8]) -> Result<Self, FileError> {
        let refuse = |rule: &str| Err(FileError::invalid(format!("path: {rule}")));
        if path.is_empty() {
            return Ok(Self::root());
        }
        if path.len() > PATH_MAX {
            return refuse("it may have 4096 bytes");
        }
        if path.contains(&0) {
            return refuse("it must not have a zero byte");
        }
        if path.starts_with(b"/") {
            return refuse("it must not begin with a slash: it is one below the workspace");
        }
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" => return refuse("it must not have an empty part: no slash at its end, and no two in a row"),
                b"." | b".." => return refuse("it must not have `.` or `..` as a part"),
                _ => {}
            }
        }
        Ok(Self(PathBuf::from(OsString::from_vec(path.to_owned()))))
    }

    /// Whether it is the workspace itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.as_os_str().is_empty()
    }

    /// As the kernel is asked for it.
    pub(super) fn as_path(&self) -> &Path {
        if self.is_root() { Path::new(".") } else { &self.0 }
    }

    /// The folder it is in and its name there; none: it is the workspace itself.
    pub(super) fn split(&self) -> Option<(Self, &OsStr)> {
        let name = self.0.file_name()?;
        Some((Self(self.0.parent().map(Path::to_owned).unwrap_or_default()), name))
    }

    /// The folders on the way, from the workspace down, without the last part's.
    pub(super) fn names(&self) -> Vec<&OsStr> {
        self.0.iter().collect()
    }

    /// Goes into a folder.
    pub(super) fn push(&mut self, name: &OsStr) {
        self.0.push(name);
    }

    /// Comes out of it.
    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    /// Its bytes, as given.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_os_str().as_bytes()
    }

    /// How many names it has.
    pub(super) fn depth(&self) -> usize {
        self.0.iter().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_mean_something_else_than_it_says_is_refused() {
        let long = "a".repeat(PATH_MAX + 1);
        for bad in ["/", "/etc", "..", ".", "a/..", "../a", "a/../b", "a//b", "a/", "./a", "a\0b", &long] {
            assert!(matches!(FilePath::parse(bad.as_bytes()), Err(FileError::Invalid(_))), "{bad:?} was accepted");
        }
        for good in ["a", "a/b", "...", "a b", ".hidden", "é/ж", "a\\b", "-rf", "a/..b"] {
            let path = FilePath::parse(good.as_bytes()).expect(good);
            assert_eq!(path.as_bytes(), good.as_bytes());
        }
        assert!(FilePath::parse(b"").expect("the root").is_root());
    }

    #[test]
    fn a_path_is_a_folder_and_a_name() {
        let path = FilePath::parse(b"a/b/c").expect("good");
        let (folder, name) = path.split().expect("it has a name");
        assert_eq!((folder.as_bytes(), name), (&b"a/b"[..], OsStr::new("c")));
        let (folder, name) =
            FilePath::parse(b"a").expect("good").split().map(|(f, n)| (f, n.to_owned())).expect("a name");
        assert!(folder.is_root() && name == "a");
        assert!(FilePath::root().split().is_none());
    }
}
