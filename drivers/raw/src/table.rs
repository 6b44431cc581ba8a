//! Memory that survives the process: a file, mapped.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use gimlet_tcp::Slot;
use memmap2::{Advice, MmapMut};

/// The slots of a translator in a file. In a file system that lies in memory (`/dev/shm`, `/run`) a write costs what it
/// costs elsewhere in memory, and what was written outlives the process in whichever way that ends.
///
/// The file belongs to one process at a time, which a lock on it sees to, and whoever shortens it all the same ends that
/// process.
pub struct Table {
    map: MmapMut,
    slots: usize,
    // Holds the lock; `None` where nobody else can be.
    _file: Option<File>,
}

/// Why a file cannot be a table.
#[derive(Debug)]
pub enum TableError {
    /// Another process uses it.
    InUse,
    /// It holds a table of another size.
    Size {
        /// Bytes in the file.
        has: u64,
        /// Bytes that were asked for.
        wants: u64,
    },
    /// The system refused.
    Refused(io::Error),
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableError::InUse => f.write_str("another process uses this table: stop it first"),
            TableError::Size { has, wants } => write!(
                f,
                "the table has {has} bytes and {wants} are wanted: give the same number of flows as before, or \
                 remove the file and lose the flows in it"
            ),
            TableError::Refused(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TableError {}

impl From<io::Error> for TableError {
    fn from(error: io::Error) -> Self {
        TableError::Refused(error)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl Table {
    /// Opens the table at `path`, or makes one, readable for its owner alone, with so many slots.
    pub fn open(path: &Path, slots: usize) -> Result<Self, TableError> {
        let wants = (slots * size_of::<Slot>()) as u64;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => TableError::InUse,
            TryLockError::Error(error) => TableError::Refused(error),
        })?;
        match file.metadata()?.len() {
            0 => file.set_len(wants)?,
            has if has == wants => {}
            has => return Err(TableError::Size { has, wants }),
        }
        // SAFETY: the lock keeps other processes that ask for it away. One that does not, and writes, changes the values
        // of plain numbers, each of which the translator checks.
        let map = unsafe { MmapMut::map_mut(&file)? };
        assert!(map.as_ptr().addr().is_multiple_of(align_of::<Slot>()), "mappings begin at a page");
        Ok(Self { map, slots, _file: Some(file) })
    }
}

impl Table {
    /// A table that ends with the process, in pages as large as the system gives: with a million flows, looking for the
    /// page costs as much as looking at the flow.
    pub fn in_memory(slots: usize) -> Result<Self, TableError> {
        let map = MmapMut::map_anon(slots * size_of::<Slot>())?;
        // A kernel without large pages gives others.
        let _ = map.advise(Advice::HugePage);
        Ok(Self { map, slots, _file: None })
    }
}

impl AsRef<[Slot]> for Table {
    #[inline]
    fn as_ref(&self) -> &[Slot] {
        // SAFETY: the mapping is aligned (asserted when it was made) and `slots` slots long, lives as long as `self`,
        // and a slot is plain numbers: any bytes are one.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.slots) }
    }
}

impl AsMut<[Slot]> for Table {
    #[inline]
    fn as_mut(&mut self) -> &mut [Slot] {
        // SAFETY: as above, and `self` is borrowed for change.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().cast(), self.slots) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_there_when_it_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table");
        let mut table = Table::open(&path, 1_000).unwrap();
        assert_eq!(table.as_ref().len(), 1_000);
        assert!(matches!(Table::open(&path, 1_000), Err(TableError::InUse)));
        let (empty, other) = (table.as_ref()[7], table.map.as_ref().len());
        // The bytes of one slot.
        table.map[7 * 64..8 * 64].fill(0xa5);
        assert!(table.as_ref()[7] != empty && table.as_ref()[8] == empty);
        let written = table.as_ref()[7];
        drop(table);
        assert!(matches!(Table::open(&path, 999), Err(TableError::Size { has, .. }) if has == other as u64));
        let again = Table::open(&path, 1_000).unwrap();
        assert!(again.as_ref()[7] == written);
    }

    #[test]
    fn a_table_in_memory_is_empty_and_aligned() {
        let mut table = Table::in_memory(1_000).unwrap();
        assert!(table.as_ref().len() == 1_000 && table.as_mut().as_ptr().is_aligned());
        assert!(table.as_ref().iter().all(|slot| *slot == Slot::EMPTY));
    }

    #[test]
    fn a_table_is_nobody_elses_to_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table");
        let _table = Table::open(&path, 10).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
