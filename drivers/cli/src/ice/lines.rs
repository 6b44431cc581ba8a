//! Lines from a stream that may hold anything, in bounded memory.

use std::io::{self, BufRead, Read as _};

use gimlet_machine::DATAGRAM_MAX;

/// The longest line that is read, in bytes without its end: a whole datagram in hexadecimal and two
/// addresses. Of a longer one the rest is skipped, and it is reported as [`Line::Damaged`].
pub(crate) const LINE_MAX: usize = 2 * DATAGRAM_MAX + 256;

/// What stood on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// UTF-8, without the line's end.
    Text(String),
    /// Something else, and what.
    Damaged(&'static str),
}

/// Reads the next line; `None` at the end. A last line without an end counts.
pub(crate) fn next(from: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    // Two more than the line: its end may be `\r\n`.
    from.by_ref().take(LINE_MAX as u64 + 2).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let ended = bytes.pop_if(|last| *last == b'\n').is_some();
    if ended {
        bytes.pop_if(|last| *last == b'\r');
    }
    let too_long = bytes.len() > LINE_MAX;
    if too_long && !ended {
        skip_line(from)?;
    }
    Ok(Some(match String::from_utf8(bytes) {
        Ok(text) if !too_long => Line::Text(text),
        Ok(_) => Line::Damaged("the line is too long"),
        Err(_) => Line::Damaged("the line is not UTF-8"),
    }))
}

/// Reads to the end of the line and forgets it.
fn skip_line(from: &mut impl BufRead) -> io::Result<()> {
    loop {
        let held = from.fill_buf()?;
        let end = held.iter().position(|byte| *byte == b'\n');
        let (skipped, done) = (end.map_or(held.len(), |end| end + 1), end.is_some() || held.is_empty());
        from.consume(skipped);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Line> {
        let mut from = io::BufReader::with_capacity(64, bytes);
        std::iter::from_fn(|| next(&mut from).unwrap()).collect()
    }

    #[test]
    fn a_line_ends_with_either_end_or_with_the_stream() {
        let lines = ["one", "", "two", "three"].map(|text| Line::Text(text.to_owned()));
        assert_eq!(read(b"one\n\r\ntwo\r\nthree"), lines);
        assert_eq!(read(b""), []);
    }

    #[test]
    fn what_is_no_line_is_reported_and_the_next_one_is_read() {
        let longest = "x".repeat(LINE_MAX);
        for (end, count) in [("\n", 0), ("\r\n", 0), ("\n", 1), ("\r\n", 2), ("\n", 5_000)] {
            let long = format!("{longest}{}{end}after", "x".repeat(count));
            let first = match count {
                0 => Line::Text(longest.clone()),
                _ => Line::Damaged("the line is too long"),
            };
            assert_eq!(read(long.as_bytes()), [first, Line::Text("after".to_owned())], "{count}");
        }
        assert_eq!(
            read(b"\xff\xfe\nafter"),
            [Line::Damaged("the line is not UTF-8"), Line::Text("after".to_owned())]
        );
    }
}
