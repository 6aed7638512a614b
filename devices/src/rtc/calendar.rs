//! Dates of the proleptic Gregorian calendar as seconds since 1970 and back, and the encodings of the RTC.

const DAY: i64 = 86_400;

/// A moment as the RTC keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// 0 to 59.
    pub second: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 1 is Sunday.
    pub weekday: u8,
    /// 1 to 31.
    pub day: u8,
    /// 1 to 12.
    pub month: u8,
    /// With the century.
    pub year: u16,
}

impl Moment {
    /// The moment `seconds` after 1970-01-01 00:00:00. Times outside the years 0 to 9999 are clamped.
    pub fn from_unix(seconds: i64) -> Self {
        let seconds = seconds.clamp(-62_167_219_200, 253_402_300_799);
        let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        // Days since 0000-03-01, in 400-year eras; the year starts in March, so that the leap day ends it.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        Self {
            second: (second % 60) as u8,
            minute: (second / 60 % 60) as u8,
            hour: (second / 3600) as u8,
            weekday: ((days + 4).rem_euclid(7) + 1) as u8,
            day: day as u8,
            month: month as u8,
            year: year as u16,
        }
    }

    /// Seconds since 1970-01-01 00:00:00. Fields out of range carry into the next, so any value is a time.
    pub fn to_unix(self) -> i64 {
        let month = i64::from(self.month) - 1;
        let year = i64::from(self.year) + month.div_euclid(12);
        let month = month.rem_euclid(12) + 1;
        let march_year = year - i64::from(month <= 2);
        let (era, year_of_era) = (march_year.div_euclid(400), march_year.rem_euclid(400));
        let march_month = (month + 9) % 12;
        let of_year = (153 * march_month + 2) / 5 + i64::from(self.day) - 1;
        let days =
            era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468;
        let (hour, minute, second) = (i64::from(self.hour), i64::from(self.minute), i64::from(self.second));
        days * DAY + hour * 3600 + minute * 60 + second
    }
}

/// A number as the RTC shows it: BCD, or binary if `binary`.
pub fn encode(value: u8, binary: bool) -> u8 {
    if binary { value } else { ((value / 10 % 10) << 4) | (value % 10) }
}

/// The inverse of [`encode`].
pub fn decode(value: u8, binary: bool) -> u8 {
    if binary { value } else { (value >> 4) * 10 + (value & 15) }
}

/// An hour as the RTC shows it, with PM in bit 7 if not `hours24`.
pub fn encode_hour(hour: u8, binary: bool, hours24: bool) -> u8 {
    if hours24 {
        return encode(hour, binary);
    }
    let twelve = (hour + 11) % 12 + 1;
    encode(twelve, binary) | if hour >= 12 { 0x80 } else { 0 }
}

/// The inverse of [`encode_hour`].
pub fn decode_hour(value: u8, binary: bool, hours24: bool) -> u8 {
    if hours24 {
        return decode(value, binary);
    }
    decode(value & 0x7f, binary) % 12 + if value & 0x80 != 0 { 12 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let leap = Moment { second: 59, minute: 58, hour: 23, weekday: 5, day: 29, month: 2, year: 2024 };
        assert_eq!(Moment::from_unix(1_709_251_139), leap);
        assert_eq!(leap.to_unix(), 1_709_251_139);
        assert_eq!(Moment::from_unix(0).weekday, 5, "a Thursday");
        assert_eq!(Moment::from_unix(i64::MAX).year, 9999);
        assert_eq!(Moment::from_unix(i64::MIN).year, 0);
    }

    #[test]
    fn round_trips() {
        for seconds in (-5_000_000_000i64..20_000_000_000).step_by(86_399_977) {
            assert_eq!(Moment::from_unix(seconds).to_unix(), seconds);
        }
        for hour in 0..24 {
            for (binary, hours24) in [(false, false), (false, true), (true, false), (true, true)] {
                assert_eq!(decode_hour(encode_hour(hour, binary, hours24), binary, hours24), hour);
            }
        }
    }
}
