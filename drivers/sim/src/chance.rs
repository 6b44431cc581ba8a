//! Probabilities as integers.

use std::fmt;
use std::str::FromStr;

use gimlet_machine::Rng;

const MILLION: u32 = 1_000_000;

/// A probability in millionths. Integers, so that every platform decides alike.
///
/// Written as a percentage with up to four decimals: `5%`, `0.25%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chance(u32);

/// The text is not a percentage between 0 and 100 with at most four decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAChance;

impl Chance {
    /// It does not happen, and nothing is drawn to find out.
    pub const NEVER: Chance = Chance(0);
    /// It happens every time.
    pub const ALWAYS: Chance = Chance(MILLION);

    /// So many times in a million; more than a million is [`Chance::ALWAYS`].
    pub const fn per_million(times: u32) -> Self {
        if times > MILLION { Self::ALWAYS } else { Self(times) }
    }

    /// So many times in a hundred; more than a hundred is [`Chance::ALWAYS`].
    pub const fn percent(times: u32) -> Self {
        Self::per_million(times.saturating_mul(MILLION / 100))
    }

    /// How many times in a million.
    pub const fn as_per_million(self) -> u32 {
        self.0
    }

    /// Decides one case.
    pub fn happens(self, rng: &mut Rng) -> bool {
        self.0 != 0 && rng.chance(self.0)
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:04}", self.0 % 10_000);
        let decimals = decimals.trim_end_matches('0');
        let point = if decimals.is_empty() { "" } else { "." };
        write!(f, "{}{point}{decimals}%", self.0 / 10_000)
    }
}

impl FromStr for Chance {
    type Err = NotAChance;

    /// The percent sign may be left out.
    fn from_str(text: &str) -> Result<Self, NotAChance> {
        let number = text.trim().trim_end_matches('%').trim_end();
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || decimals.len() > 4 || !is_digits(whole) || !is_digits(decimals) {
            return Err(NotAChance);
        }
        let whole: u32 = whole.parse().map_err(|_| NotAChance)?;
        let decimals: u32 = format!("{decimals:0<4}").parse().map_err(|_| NotAChance)?;
        let millionths = whole.checked_mul(10_000).and_then(|whole| whole.checked_add(decimals));
        millionths.filter(|millionths| *millionths <= MILLION).map(Chance).ok_or(NotAChance)
    }
}

impl fmt::Display for NotAChance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a chance is a percentage from 0 to 100 with at most four decimals, such as 0.5%")
    }
}

impl std::error::Error for NotAChance {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_survives_being_written_down() {
        for millionths in [0, 1, 10, 2_500, 10_000, 50_000, 999_999, 1_000_000] {
            let chance = Chance::per_million(millionths);
            assert_eq!(chance.to_string().parse(), Ok(chance), "{chance}");
        }
        assert_eq!(("0.25%".parse(), "5".parse()), (Ok(Chance(2_500)), Ok(Chance::percent(5))));
        assert_eq!(Chance::percent(5).to_string(), "5%");
    }

    #[test]
    fn text_that_is_no_percentage_is_refused() {
        for text in ["", "%", "-1", "101", "100.0001", "1.23456", ".5", "five", "+5", "4294967295"] {
            assert_eq!(text.parse::<Chance>(), Err(NotAChance), "{text}");
        }
    }
}
