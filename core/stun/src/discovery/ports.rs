//! From a handful of mapped ports to the rule behind them.

use alloc::vec::Vec;

use super::behaviour::PortModel;

/// The fewest samples from which a rule with one explanation is read: ports that are kept, or that
/// advance by the same step. By chance that happens less than once in 10¹² times.
const SAMPLES_MIN: usize = 4;

/// The fewest samples from which "somewhere" is read. Six random ports fall into [`BLOCK_MAX`]
/// neighbours by chance about once in 10⁵ times.
const SCATTERED_MIN: usize = 6;

/// The widest spread of samples that is called a block. Carriers deal out 512 to 4096 ports.
pub const BLOCK_MAX: u16 = 4_096;

/// The narrowest spread that is called random. What lies between may be a large block or bad luck,
/// and stays unknown.
const RANDOM_MIN: u16 = 32_768;

impl PortModel {
    /// The rule behind `samples`, for whoever has asked a server by other means than a
    /// [`Discovery`](crate::Discovery): the own port and the mapped port of sockets that were not used before,
    /// in the order in which they asked. `None` if too few, or if what they show may be two things.
    ///
    /// ```
    /// # use gimlet_stun::PortModel;
    /// let samples = [(5_000, 40_000), (5_007, 40_002), (5_014, 40_004), (5_021, 40_006)];
    /// assert_eq!(PortModel::of_samples(&samples), Some(PortModel::Sequential { delta: 2 }));
    /// ```
    pub fn of_samples(samples: &[(u16, u16)]) -> Option<PortModel> {
        let sample = |&(local, mapped): &(u16, u16)| Sample { local, mapped };
        port_model(&samples.iter().map(sample).collect::<Vec<_>>())
    }
}

/// One fresh socket: its own port, and the one that the server saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) local: u16,
    pub(super) mapped: u16,
}

/// The rule behind `samples`, which are in the order in which the mappings were made.
pub(super) fn port_model(samples: &[Sample]) -> Option<PortModel> {
    if samples.len() < SAMPLES_MIN {
        return None;
    }
    let kept = samples.iter().filter(|sample| sample.local == sample.mapped).count();
    if kept >= SAMPLES_MIN.max(samples.len().div_ceil(2)) {
        // The others were in use by somebody.
        return Some(PortModel::Preserving);
    }
    if kept > 0 {
        return None;
    }
    let port = |sample: &Sample| i32::from(sample.mapped);
    let deltas: Vec<i32> = samples.windows(2).map(|pair| port(&pair[1]) - port(&pair[0])).collect();
    let delta = deltas[0];
    if delta != 0 && deltas.iter().all(|other| *other == delta) {
        return Some(PortModel::Sequential { delta });
    }
    if samples.len() < SCATTERED_MIN || is_regular(&deltas) {
        return None;
    }
    let first = samples.iter().map(|sample| sample.mapped).min()?;
    let last = samples.iter().map(|sample| sample.mapped).max()?;
    match last - first {
        0..BLOCK_MAX => Some(PortModel::Block { first, last }),
        RANDOM_MIN.. => Some(PortModel::Random),
        BLOCK_MAX..RANDOM_MIN => None,
    }
}

/// Whether there may be a rule that others disturbed: a counter that other sockets advance too, or
/// that began again at its first port. Random ports go up and down; three in a row that go the same
/// way in short steps, or a step that occurs twice, are not taken for chance.
fn is_regular(deltas: &[i32]) -> bool {
    let climbs = deltas.iter().filter(|delta| **delta > 0).count();
    let one_way = climbs <= 1 || climbs + 1 >= deltas.len();
    let repeats = deltas.iter().enumerate().any(|(nth, delta)| deltas[..nth].contains(delta));
    one_way || repeats
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(ports: &[u16]) -> Option<PortModel> {
        let sample = |(nth, mapped): (usize, &u16)| Sample { local: 5_000 + nth as u16 * 7, mapped: *mapped };
        port_model(&ports.iter().enumerate().map(sample).collect::<Vec<_>>())
    }

    #[test]
    fn each_rule_is_told_from_clean_samples() {
        assert_eq!(model(&[5_000, 5_007, 5_014, 5_021]), Some(PortModel::Preserving));
        assert_eq!(model(&[5_000, 5_007, 5_015, 5_021, 5_028]), Some(PortModel::Preserving), "one was taken");
        assert_eq!(model(&[40_000, 40_002, 40_004, 40_006]), Some(PortModel::Sequential { delta: 2 }));
        assert_eq!(model(&[40_000, 39_999, 39_998, 39_997]), Some(PortModel::Sequential { delta: -1 }));
        let block = [10_400, 10_017, 10_255, 10_030, 10_500, 10_101];
        assert_eq!(model(&block), Some(PortModel::Block { first: 10_017, last: 10_500 }));
        assert_eq!(model(&[60_000, 2_000, 31_000, 9_500, 44_000, 12_000]), Some(PortModel::Random));
    }

    #[test]
    fn what_may_be_two_things_is_neither() {
        assert_eq!(model(&[]), None);
        assert_eq!(model(&[40_000, 40_001, 40_002]), None, "too few");
        assert_eq!(model(&[60_000, 2_000, 31_000, 9_500]), None, "too few for chance");
        assert_eq!(model(&[40_000, 40_001, 40_004, 40_005, 40_009, 40_010]), None, "others draw from it too");
        assert_eq!(model(&[65_534, 65_535, 1_024, 1_025, 1_026, 1_027]), None, "went round");
        assert_eq!(model(&[10_000, 20_000, 12_000, 24_000, 14_000, 11_000]), None, "a large block, or luck");
        assert_eq!(model(&[5_000, 33_000, 9_000, 60_000, 1_500, 20_000]), None, "kept one");
        assert_eq!(model(&[20_000, 40_000, 60_000, 15_488, 35_488, 55_488]), None, "a long stride");
    }
}
