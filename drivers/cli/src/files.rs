//! Files that never replace others.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Gives the finished file at `from` the first of `names` that is free in `folder`, and removes the
/// old name. Whatever exists stays as it is, even if it appears at the same moment.
///
/// # Errors
///
/// Every name is taken ([`io::ErrorKind::AlreadyExists`]), or the file system refuses.
pub(crate) fn publish(
    from: &Path,
    folder: &Path,
    names: impl IntoIterator<Item = String>,
) -> io::Result<PathBuf> {
    for name in names {
        let to = folder.join(name);
        match claim(from, &to) {
            Ok(()) => {
                sync_folder(folder);
                return Ok(to);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Renames without replacing. A hard link does both steps safely; file systems without links (FAT)
/// get an empty file that reserves the name and is replaced by ours.
fn claim(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => {
            // A second name that cannot be removed is untidy; the file is where it should be.
            let _ = fs::remove_file(from);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => {
            File::create_new(to)?;
            fs::rename(from, to)
        }
    }
}

/// Makes a new name in `folder` survive a power failure, where the system can.
fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        // Some file systems refuse to sync a folder; they give no such promise then.
        let _ = folder.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_left_alone_and_the_next_name_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("part");
        fs::write(&part, "new").unwrap();
        fs::write(folder.path().join("a"), "old").unwrap();
        let names = || ["a", "b"].map(String::from);
        assert_eq!(publish(&part, folder.path(), names()).unwrap(), folder.path().join("b"));
        assert_eq!(fs::read_to_string(folder.path().join("a")).unwrap(), "old");
        assert_eq!(fs::read_to_string(folder.path().join("b")).unwrap(), "new");
        assert!(!part.exists());

        fs::write(&part, "newer").unwrap();
        let refused = publish(&part, folder.path(), names()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert!(part.exists(), "what could not be published is kept");
    }
}
