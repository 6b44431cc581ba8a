//! Where a part lies in the whole.

/// The offset of `part`, which was borrowed from `whole`.
pub(crate) fn offset(whole: &[u8], part: &[u8]) -> usize {
    let offset = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    assert!(offset <= whole.len() && part.len() <= whole.len() - offset, "the part lies in the whole");
    offset
}

#[cfg(test)]
mod tests {
    #[test]
    fn parts_are_found_where_they_lie() {
        let whole = [1, 2, 3, 4];
        assert_eq!(super::offset(&whole, &whole[1..3]), 1);
        assert_eq!(super::offset(&whole, &whole[4..]), 4);
    }

    #[test]
    #[should_panic(expected = "the part lies in the whole")]
    fn a_stranger_is_no_part() {
        super::offset(&[1, 2, 3, 4][1..], &[0; 64]);
    }
}
