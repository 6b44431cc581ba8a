//! Rounds of the same measurement.

/// The median; 0 of none. Of an even number, the upper of the two in the middle.
///
/// ```
/// assert_eq!(gimlet_splice_bench::median(&[9.0, 1.0, 5.0]), 5.0);
/// ```
pub fn median(values: &[f64]) -> f64 {
    nth(values, values.len() / 2)
}

/// The quartiles: a quarter of the values is below the first and above the second.
pub fn spread(values: &[f64]) -> (f64, f64) {
    (nth(values, values.len() / 4), nth(values, (values.len() * 3) / 4))
}

fn nth(values: &[f64], nth: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(nth.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_middle_in_any_order() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0, 5.0]), 3.0);
        assert_eq!(spread(&[4.0, 1.0, 3.0, 2.0, 5.0]), (2.0, 4.0));
        assert_eq!((median(&[]), spread(&[7.0])), (0.0, (7.0, 7.0)));
    }
}
