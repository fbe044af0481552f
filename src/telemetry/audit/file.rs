//! The file of the audit log: appended to a whole line at a time, put aside when it is large, opened anew when it was taken away.
//!
//! Every line is one `write` to a file opened for appending, so other writers' lines are never torn. A line that doesn't fit on the disk is
//! taken back: nobody reads half of one. Only the log's own thread is here.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

/// The file and those put aside.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    device: u64,
    inode: u64,
    size: u64,
    /// The last line has no end: whoever wrote it was killed.
    torn: bool,
    unsynced: bool,
}

impl AuditFile {
    /// Opens the file, making it if it is missing.
    pub fn open(path: PathBuf, max_bytes: u64, keep: u32) -> io::Result<Self> {
        let open = Some(open(&path)?);
        Ok(Self { path, max_bytes, keep, open })
    }

    /// Whether the file is still where it was; if not, the next line opens it anew.
    pub fn look(&mut self) {
        let Some(open) = &mut self.open else { return };
        match fs::metadata(&self.path) {
            Ok(data) if (data.dev(), data.ino()) == (open.device, open.inode) => open.size = data.len(),
            _ => self.open = None,
        }
    }

    /// Writes one line. An error leaves nothing of it.
    pub fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let large = |open: &Open| open.size > 0 && open.size + line.len() as u64 > self.max_bytes;
        if self.open.as_ref().is_some_and(large) {
            self.put_aside()?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(open(&self.path)?),
        };
        open.write(line)
    }

    /// Makes what was written survive a loss of power.
    pub fn sync(&mut self) -> io::Result<()> {
        match &mut self.open {
            Some(open) if open.unsynced => {
                open.file.sync_data()?;
                open.unsynced = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// `audit.jsonl` becomes `audit.jsonl.1`, that `.2`, and so on.
    fn put_aside(&mut self) -> io::Result<()> {
        self.sync()?;
        for number in (1..self.keep).rev() {
            absent_is_fine(fs::rename(self.aside(number), self.aside(number + 1)))?;
        }
        // Fewer may be kept than were before.
        let surplus = (self.keep + 1..).map(|number| self.aside(number));
        surplus.take_while(|path| path.exists()).try_for_each(fs::remove_file)?;
        absent_is_fine(fs::rename(&self.path, self.aside(1)))?;
        self.open = None;
        Ok(())
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

impl Open {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let whole;
        let bytes = if self.torn {
            whole = [b"\n", line].concat();
            &whole
        } else {
            line
        };
        let written = self.file.write(bytes)?;
        if written == bytes.len() {
            self.size += written as u64;
            (self.torn, self.unsynced) = (false, true);
            return Ok(());
        }
        self.torn = self.file.set_len(self.size).is_err();
        Err(io::ErrorKind::StorageFull.into())
    }
}

fn open(path: &Path) -> io::Result<Open> {
    // A pipe without a reader would hold us up for ever.
    let at_once = OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    let mut file = options.create(true).append(true).read(true).mode(0o600).custom_flags(at_once).open(path)?;
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut last = [b'\n'];
    if data.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let (device, inode, size) = (data.dev(), data.ino(), data.len());
    Ok(Open { file, device, inode, size, torn: last != [b'\n'], unsynced: false })
}

fn absent_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("audit.jsonl");
        (folder, path)
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).expect("it is there")
    }

    #[test]
    fn lines_are_appended_to_a_file_that_only_its_owner_reads() {
        let (_folder, path) = folder();
        for line in ["one\n", "two\n"] {
            AuditFile::open(path.clone(), 1000, 1).expect("opened").write(line.as_bytes()).expect("written");
        }
        assert_eq!(text(&path), "one\ntwo\n");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_large_file_is_put_aside_and_only_so_many_are_kept() {
        let (folder, path) = folder();
        let mut file = AuditFile::open(path.clone(), 10, 3).expect("opened");
        for number in 0..10 {
            file.write(format!("line{number}\n").as_bytes()).expect("written");
        }
        // One line fits into each.
        assert_eq!(text(&path), "line9\n");
        for (number, line) in [(1, "line8\n"), (2, "line7\n"), (3, "line6\n")] {
            assert_eq!(text(&file.aside(number)), line);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 4);
        let mut fewer = AuditFile::open(path, 10, 1).expect("opened");
        fewer.write(b"last-one\n").expect("written");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
    }

    #[test]
    fn a_line_longer_than_a_file_may_be_is_written_all_the_same() {
        let (_folder, path) = folder();
        let mut file = AuditFile::open(path.clone(), 4, 1).expect("opened");
        file.write(b"much too long\n").expect("written");
        assert_eq!(text(&path), "much too long\n");
    }

    #[test]
    fn a_file_that_was_moved_or_deleted_is_opened_anew() {
        let (folder, path) = folder();
        let mut file = AuditFile::open(path.clone(), 1000, 1).expect("opened");
        file.write(b"one\n").expect("written");
        fs::rename(&path, folder.path().join("moved")).expect("moved");
        file.look();
        file.write(b"two\n").expect("written");
        assert_eq!((text(&folder.path().join("moved")), text(&path)), ("one\n".to_owned(), "two\n".to_owned()));
        fs::remove_file(&path).expect("removed");
        file.look();
        file.write(b"three\n").expect("written");
        assert_eq!(text(&path), "three\n");
        // As `copytruncate` of logrotate leaves it.
        File::options().write(true).open(&path).expect("there").set_len(0).expect("cut");
        file.look();
        file.write(b"four\n").expect("written");
        assert_eq!(text(&path), "four\n");
    }

    #[test]
    fn half_a_line_that_a_killed_writer_left_stays_alone() {
        let (_folder, path) = folder();
        fs::write(&path, "{\"ti").expect("written");
        AuditFile::open(path.clone(), 1000, 1).expect("opened").write(b"whole\n").expect("written");
        assert_eq!(text(&path), "{\"ti\nwhole\n");
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let (folder, path) = folder();
        assert!(AuditFile::open(folder.path().to_owned(), 1000, 1).is_err());
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).expect("a pipe");
        let error = AuditFile::open(path, 1000, 1).expect_err("a pipe is no log");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
