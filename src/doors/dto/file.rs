//! What is in a folder of a workspace.

use poem_openapi::{Enum, Object};

use super::Time;
use crate::{
    ids::hex,
    problem::{Code, Problem},
    service::files::{Entry, EntryKind, Listing},
};

/// What an entry of a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum FileType {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link. Where it leads isn't looked at.
    Link,
    /// A socket, a pipe or a device: neither can be read or written here.
    Other,
}

/// An entry of a folder.
#[derive(Debug, Clone, Object)]
pub struct FileEntry {
    /// Its name. What isn't UTF-8 in it is shown as U+FFFD, and such an entry can't be asked for.
    pub name: String,
    /// What it is.
    #[oai(rename = "type")]
    pub kind: FileType,
    /// A file's bytes; 0 for anything else.
    pub size: u64,
    /// When its content was changed last.
    pub modified_at: Time,
}

/// A page of a folder.
#[derive(Debug, Clone, Object)]
pub struct Folder {
    /// Its entries, by name.
    pub items: Vec<FileEntry>,
    /// For the next page; null: this was the last.
    #[oai(nullable)]
    pub next_cursor: Option<String>,
}

impl From<Listing> for Folder {
    fn from(listing: Listing) -> Self {
        let items = listing.entries.into_iter().map(FileEntry::from).collect();
        Self { items, next_cursor: listing.next.map(|name| hex(&name)) }
    }
}

impl From<Entry> for FileEntry {
    fn from(entry: Entry) -> Self {
        let kind = match entry.kind {
            EntryKind::File => FileType::File,
            EntryKind::Folder => FileType::Folder,
            EntryKind::Link => FileType::Link,
            EntryKind::Other => FileType::Other,
        };
        Self { name: entry.name, kind, size: entry.size, modified_at: Time(entry.modified_at) }
    }
}

/// The name a cursor stands for. It is a name as it is on disk, which may be no text.
pub fn cursor_from_text(text: &str) -> Result<Vec<u8>, Problem> {
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    };
    let name: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    name.ok_or_else(|| Problem::new(Code::InvalidRequest, "cursor: it is none of ours"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_stands_for_any_name_and_nothing_else_for_one() {
        for name in [&b"a"[..], b"\xff\xfe", "é\n".as_bytes(), b""] {
            assert_eq!(cursor_from_text(&hex(name)).expect("ours"), name);
        }
        for bad in ["a", "zz", "é", "0 ", "abc"] {
            cursor_from_text(bad).expect_err(bad);
        }
    }
}
