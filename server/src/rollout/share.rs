//! Shares of devices, exact: whole parts in a million, written as a percentage.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A share from 0 % to 100 %, in steps of 0.0001 %.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

/// A text that is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a share like \"2.5%\": 0% to 100%, at most 4 decimals")]
pub struct ShareError(String);

const WHOLE_PPM: u32 = 1_000_000;

impl Share {
    /// All of them.
    pub const WHOLE: Self = Self(WHOLE_PPM);

    /// Parts in a million; above a million is a million.
    pub const fn from_ppm(ppm: u32) -> Self {
        if ppm > WHOLE_PPM {
            Self::WHOLE
        } else {
            Self(ppm)
        }
    }

    /// Parts in a million.
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// As a probability.
    pub fn as_rate(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE_PPM)
    }

    /// How many of `whole` this is, rounded down.
    pub fn of(self, whole: usize) -> usize {
        let part = whole as u128 * u128::from(self.0) / u128::from(WHOLE_PPM);
        usize::try_from(part).unwrap_or(whole)
    }

    /// Reads `2.5%`.
    ///
    /// # Errors
    /// Any other form.
    pub fn parse(text: &str) -> Result<Self, ShareError> {
        let wrong = || ShareError(text.chars().take(32).collect());
        let number = text.strip_suffix('%').ok_or_else(wrong)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let fits = |text: &str, max: usize| (1..=max).contains(&text.len()) && digits(text);
        if !fits(whole, 3) || !fits(part, 4) {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let part: u32 = format!("{part:0<4}").parse().map_err(|_| wrong())?;
        let ppm = whole * 10_000 + part;
        if ppm > WHOLE_PPM {
            return Err(wrong());
        }
        Ok(Self(ppm))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 10_000, self.0 % 10_000);
        if part == 0 {
            return write!(f, "{whole}%");
        }
        let part = format!("{part:04}");
        write!(f, "{whole}.{}%", part.trim_end_matches('0'))
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact() {
        for (text, ppm) in [
            ("0%", 0),
            ("1%", 10_000),
            ("2.5%", 25_000),
            ("0.0001%", 1),
            ("100%", WHOLE_PPM),
        ] {
            let share = Share::parse(text).unwrap();
            assert_eq!((share.ppm(), share.to_string().as_str()), (ppm, text));
        }
        for bad in [
            "",
            "5",
            "%",
            "101%",
            "100.0001%",
            "1.00001%",
            "-1%",
            "1,5%",
            ".5%",
            "1.%",
        ] {
            assert!(Share::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Share::parse("10%").unwrap().of(19), 1, "never above");
        assert_eq!(Share::WHOLE.of(usize::MAX), usize::MAX);
    }
}
