//! What can be sent: a file, or made-up bytes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::note::{OFFERED_NAME_MAX, Offer};

/// Bytes to send.
#[derive(Debug)]
pub(crate) enum Source {
    File(File),
    Generated(Generated),
}

/// As many bytes as wanted, the same every time and different everywhere, without a disk.
#[derive(Debug)]
pub(crate) struct Generated {
    at: u64,
    size: u64,
}

impl Source {
    /// Opens a plain file; a folder is refused.
    pub(crate) fn open(path: &Path) -> io::Result<(Source, Offer)> {
        let file = File::open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a plain file; pack a folder first, with tar for example",
            ));
        }
        let modified = found.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let modified = modified.and_then(|since| u64::try_from(since.as_nanos()).ok());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let cut = (0..=name.len().min(OFFERED_NAME_MAX)).rev().find(|at| name.is_char_boundary(*at));
        let name = name[..cut.unwrap_or_default()].to_owned();
        Ok((Source::File(file), Offer { name, size: found.len(), modified }))
    }

    /// `size` made-up bytes.
    pub(crate) fn generated(name: &str, size: u64) -> (Source, Offer) {
        (Source::Generated(Generated { at: 0, size }), Offer { name: name.into(), size, modified: None })
    }
}

impl Read for Source {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::File(file) => file.read(out),
            Source::Generated(generated) => generated.read(out),
        }
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Source::File(file) => file.seek(to),
            Source::Generated(generated) => generated.seek(to),
        }
    }
}

impl Read for Generated {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
        let count = left.min(out.len());
        let (mut word, mut skip) = (self.at / 8, (self.at % 8) as usize);
        let mut rest = &mut out[..count];
        while !rest.is_empty() {
            let bytes = mixed(word).to_le_bytes();
            let taken = rest.len().min(8 - skip);
            let (now, later) = rest.split_at_mut(taken);
            now.copy_from_slice(&bytes[skip..skip + taken]);
            (rest, word, skip) = (later, word + 1, 0);
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Generated {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?.min(self.size);
        Ok(self.at)
    }
}

/// A bijection that scatters neighbouring numbers (the finaliser of the SplitMix64 generator): the
/// bytes do not compress, and any place can be reached without the ones before it.
fn mixed(number: u64) -> u64 {
    let mut word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_bytes_are_the_same_however_they_are_read() {
        let (mut source, _) = Source::generated("a", 1_000);
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        source.read_to_end(&mut whole).unwrap();
        for at in [0, 3, 11, 500] {
            source.seek(SeekFrom::Start(at)).unwrap();
            let mut piece = vec![0; 13];
            source.read_exact(&mut piece).unwrap();
            pieces.push((at as usize, piece));
        }
        assert_eq!(whole.len(), 1_000);
        assert!(pieces.iter().all(|(at, piece)| whole[*at..*at + 13] == piece[..]));
    }

    #[test]
    fn a_folder_is_refused_with_a_remedy() {
        let error = Source::open(&std::env::temp_dir()).unwrap_err();
        assert!(error.to_string().contains("tar"), "{error}");
    }
}
