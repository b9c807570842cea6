//! Business hours: when another weight holds.

use core::time::Duration;

use crate::words::Moment;

const MINUTES_PER_DAY: u16 = 1440;

/// Days of the week as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(u8);

impl Days {
    pub const ALL: Self = Self(0b111_1111);
    /// Monday to Friday.
    pub const WORKING: Self = Self(0b001_1111);

    /// `days` counts from 0, Monday; what lies beyond Sunday is left out.
    pub fn of(days: impl IntoIterator<Item = u8>) -> Self {
        let bits = days.into_iter().filter(|day| *day < 7);
        Self(bits.fold(0, |set, day| set | 1 << day))
    }

    const fn contains(self, day: u8) -> bool {
        self.0 >> day & 1 == 1
    }
}

/// A span of each of some days. One that ends before it begins goes on past midnight, and is of
/// the day on which it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    pub days: Days,
    /// Minutes after midnight.
    pub from: u16,
    /// The first minute that is outside.
    pub to: u16,
    /// Minutes east of UTC. Time zones change theirs twice a year: whoever knows the zone sets it.
    pub offset: i16,
}

impl Hours {
    pub fn contains(&self, now: Moment) -> bool {
        let shift = Duration::from_secs(u64::from(self.offset.unsigned_abs()) * 60);
        let local = if self.offset < 0 {
            now - shift
        } else {
            now + shift
        };
        let minutes = local.as_secs() / 60;
        let minute = (minutes % u64::from(MINUTES_PER_DAY)) as u16;
        // 1970-01-01 was a Thursday.
        let day = ((minutes / u64::from(MINUTES_PER_DAY) + 3) % 7) as u8;
        let yesterday = (day + 6) % 7;
        if self.from <= self.to {
            self.days.contains(day) && (self.from..self.to).contains(&minute)
        } else {
            self.days.contains(day) && minute >= self.from
                || self.days.contains(yesterday) && minute < self.to
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tuesday, 24 November 2026, midnight UTC.
    const TUESDAY: Moment = Moment::from_secs(1_795_478_400);

    fn at(hours: u64) -> Moment {
        TUESDAY + Duration::from_secs(hours * 3600)
    }

    #[test]
    fn business_hours_are_those_of_the_place() {
        let berlin = Hours {
            days: Days::WORKING,
            from: 9 * 60,
            to: 17 * 60,
            offset: 60,
        };
        assert!(!berlin.contains(at(7)) && berlin.contains(at(8)) && berlin.contains(at(15)));
        assert!(!berlin.contains(at(16)));
        assert!(!berlin.contains(at(4 * 24 + 12)), "Saturday");
        let chicago = Hours {
            offset: -360,
            ..berlin
        };
        assert!(!chicago.contains(at(14)) && chicago.contains(at(15)));
    }

    #[test]
    fn a_night_belongs_to_the_day_it_begins_on() {
        let night = Hours {
            days: Days::of([1]),
            from: 22 * 60,
            to: 6 * 60,
            offset: 0,
        };
        assert!(!night.contains(at(5)) && night.contains(at(23)) && night.contains(at(29)));
        assert!(!night.contains(at(30)) && !night.contains(at(47)));
    }
}
