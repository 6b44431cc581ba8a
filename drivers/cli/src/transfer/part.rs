//! Partial files: where a file grows, what it remembers, and how it becomes whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::note::{Digest, Held, Offer, Trouble};
use super::rivals::Rivals;
use crate::files;
use crate::name::{PART_SUFFIX, numbered, sanitized};

/// Bytes hashed at a time while a part is looked at again.
const BLOCK: usize = 1 << 20;

/// A folder for received files.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    rivals: Rivals,
}

/// A file that is not whole yet. It is locked as long as this value lives, and stays on the disk when
/// it is dropped.
#[derive(Debug)]
pub(crate) struct Part {
    folder: Folder,
    /// What the whole file shall be called.
    name: String,
    memo: Memo,
    path: PathBuf,
    file: File,
    length: u64,
    hasher: Sha256,
}

/// What lies beside a part, so that it can be recognised. JSON, because people look at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Memo {
    name: String,
    size: u64,
    modified: Option<u64>,
    /// Who sent the first bytes. For people: the hash decides whether the next bytes fit.
    sender: String,
}

impl Memo {
    fn is_for(&self, other: &Memo) -> bool {
        (&self.name, self.size, self.modified) == (&other.name, other.size, other.modified)
    }
}

impl Folder {
    /// The folder at `path`, made if it is missing.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self { path: path.to_owned(), rivals: Rivals::default() })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Who is writing into it.
    pub(crate) fn rivals(&self) -> &Rivals {
        &self.rivals
    }

    /// The part that `offer` continues, or a fresh one. Reads what is there to hash it.
    pub(crate) fn part(&self, offer: &Offer, sender: &str) -> io::Result<Part> {
        let name = sanitized(&offer.name);
        let memo = Memo {
            name: name.clone(),
            size: offer.size,
            modified: offer.modified,
            sender: sender.to_owned(),
        };
        for candidate in numbered(&name) {
            if let Some(part) = self.resume(&candidate, &memo)? {
                return Ok(part);
            }
            if let Some(part) = self.create(&candidate, &memo)? {
                return Ok(part);
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("too many files are called {name}")))
    }

    fn part_path(&self, candidate: &str) -> PathBuf {
        self.path.join(format!("{candidate}{PART_SUFFIX}"))
    }

    /// Takes up a part that was left behind: it has to be a plain file, for the same offer, and used
    /// by nobody.
    fn resume(&self, candidate: &str, memo: &Memo) -> io::Result<Option<Part>> {
        let path = self.part_path(candidate);
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
            return Ok(None);
        }
        let Some(left) = read_memo(&path).filter(|left| left.is_for(memo)) else { return Ok(None) };
        let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let hasher = hash_start(&mut file, left.size)?;
        let length = file.stream_position()?;
        if length < file.metadata()?.len() {
            // Longer than the whole: not what we wrote.
            return Ok(None);
        }
        Ok(Some(Part {
            folder: self.clone(),
            name: memo.name.clone(),
            memo: left,
            path,
            file,
            length,
            hasher,
        }))
    }

    /// Makes an empty part, unless the name is taken.
    fn create(&self, candidate: &str, memo: &Memo) -> io::Result<Option<Part>> {
        let path = self.part_path(candidate);
        let file = match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(error),
        };
        // Nobody else knows the file yet; where locks do not exist there is nobody to keep out.
        let _ = file.try_lock();
        let part = Part {
            folder: self.clone(),
            name: memo.name.clone(),
            memo: memo.clone(),
            path,
            file,
            length: 0,
            hasher: Sha256::new(),
        };
        fs::write(memo_path(&part.path), serde_json::to_vec(memo).map_err(io::Error::other)?)?;
        Ok(Some(part))
    }
}

impl Part {
    /// What is here already.
    pub(crate) fn held(&self) -> Held {
        Held { length: self.length, sha256: self.hasher.clone().finalize().into() }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The sender begins at `at`. If that is 0 although something is here, what is here belongs to
    /// another file and is left alone: a fresh part takes over.
    pub(crate) fn start(self, at: u64) -> io::Result<Part> {
        if at == self.length {
            return Ok(self);
        }
        let (folder, memo) = (self.folder.clone(), self.memo.clone());
        for candidate in numbered(&memo.name) {
            if let Some(part) = folder.create(&candidate, &memo)? {
                return Ok(part);
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Adds the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Everything is here: compares the hash, makes it survive a power failure, and gives it the
    /// first free name. Nothing is ever replaced.
    pub(crate) fn finish(self, expected: &Digest) -> Result<PathBuf, Trouble> {
        let actual: Digest = self.hasher.finalize().into();
        if actual != *expected {
            // These bytes can never become the right ones: resuming would fail for ever.
            remove(&self.path);
            return Err(Trouble::HashMismatch);
        }
        let published = self
            .file
            .sync_all()
            .and_then(|()| files::publish(&self.path, &self.folder.path, numbered(&self.name)));
        let path = published.map_err(|error| Trouble::from_io(&error))?;
        // A memo without its part means nothing and is overwritten by the next one.
        let _ = fs::remove_file(memo_path(&self.path));
        Ok(path)
    }
}

fn remove(part: &Path) {
    // What cannot be removed is recognised by its memo the next time, and its hash will not match.
    let _ = fs::remove_file(part);
    let _ = fs::remove_file(memo_path(part));
}

fn memo_path(part: &Path) -> PathBuf {
    let mut path = part.as_os_str().to_owned();
    path.push(".json");
    path.into()
}

fn read_memo(part: &Path) -> Option<Memo> {
    serde_json::from_slice(&fs::read(memo_path(part)).ok()?).ok()
}

/// Hashes up to `count` bytes from the beginning and leaves the file's position after them.
pub(crate) fn hash_start(file: &mut (impl Read + Seek), count: u64) -> io::Result<Sha256> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hasher, mut block, mut left) = (Sha256::new(), vec![0; BLOCK], count);
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let read = file.read(&mut block[..room])?;
        if read == 0 {
            break;
        }
        hasher.update(&block[..read]);
        left -= read as u64;
    }
    Ok(hasher)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(size: u64) -> Offer {
        Offer { name: "a.txt".into(), size, modified: Some(1) }
    }

    fn digest(bytes: &[u8]) -> Digest {
        Sha256::digest(bytes).into()
    }

    fn folder() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join("new")).unwrap();
        (place, folder)
    }

    #[test]
    fn a_part_is_taken_up_where_it_was_left_and_becomes_whole() {
        let (_place, folder) = folder();
        let mut part = folder.part(&offer(6), "alice").unwrap();
        part.write(b"abc").unwrap();
        drop(part);
        let mut part = folder.part(&offer(6), "somebody else").unwrap();
        assert_eq!(part.held(), Held { length: 3, sha256: digest(b"abc") });
        part = part.start(3).unwrap();
        part.write(b"def").unwrap();
        let path = part.finish(&digest(b"abcdef")).unwrap();
        assert_eq!(path, folder.path().join("a.txt"));
        assert_eq!(fs::read(&path).unwrap(), b"abcdef");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left lying about");
    }

    #[test]
    fn a_part_of_another_file_is_left_alone() {
        let (_place, folder) = folder();
        let mut other = folder.part(&offer(6), "alice").unwrap();
        other.write(b"abc").unwrap();
        let left = other.path().to_owned();
        drop(other);
        let larger = folder.part(&offer(7), "alice").unwrap();
        assert_eq!((larger.held(), larger.path() == left), (Held::nothing(), false));
        let same_size_other_bytes = folder.part(&offer(6), "alice").unwrap().start(0).unwrap();
        assert_eq!(same_size_other_bytes.held(), Held::nothing());
        assert_eq!(fs::read(left).unwrap(), b"abc");
    }

    #[test]
    fn two_transfers_of_one_file_at_once_do_not_share_a_part() {
        let (_place, folder) = folder();
        let mut first = folder.part(&offer(3), "alice").unwrap();
        let mut second = folder.part(&offer(3), "alice").unwrap();
        first.write(b"abc").unwrap();
        second.write(b"abc").unwrap();
        let first = first.finish(&digest(b"abc")).unwrap();
        let second = second.finish(&digest(b"abc")).unwrap();
        assert_eq!(
            (first.file_name().unwrap(), second.file_name().unwrap()),
            ("a.txt".as_ref(), "a (1).txt".as_ref())
        );
    }

    #[test]
    fn a_wrong_hash_removes_the_part() {
        let (_place, folder) = folder();
        let mut part = folder.part(&offer(3), "alice").unwrap();
        part.write(b"abc").unwrap();
        assert_eq!(part.finish(&digest(b"abd")), Err(Trouble::HashMismatch));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_only_looks_like_a_part_is_not_touched() {
        let (_place, folder) = folder();
        let mine = folder.path().join("a.txt.gimlet-part");
        fs::write(&mine, "mine").unwrap();
        let mut part = folder.part(&offer(3), "alice").unwrap();
        part.write(b"abc").unwrap();
        part.finish(&digest(b"abc")).unwrap();
        assert_eq!(fs::read_to_string(mine).unwrap(), "mine");
    }
}
