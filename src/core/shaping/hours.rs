//! Hours of the week in a time zone: when an overlay holds, when a tenant's mail may go out.

use core::fmt;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::fault::Place;
use crate::words::Moment;

/// Minutes of a day.
const DAY: u16 = 1_440;
/// How many boundaries are looked at for one that changes something. A week has fourteen.
const BOUNDARIES_MAX: usize = 16;

/// Whether something holds, and until when the answer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub holds: bool,
    /// The answer is the same at least until then.
    pub until: Moment,
}

/// On these days, from this time to that, in this zone. `to` at or before `from` is on the next day.
#[derive(Clone, PartialEq)]
pub(super) struct Window {
    zone: TimeZone,
    /// Monday is bit 0.
    days: u8,
    /// Minutes after midnight.
    from: u16,
    to: u16,
}

impl Window {
    pub(super) const EVERY_DAY: u8 = 0x7f;
    pub(super) const WORKING_DAYS: u8 = 0x1f;

    /// `days` has a bit set, `from` and `to` are minutes of a day up to 24:00.
    pub(super) const fn new(zone: TimeZone, days: u8, from: u16, to: u16) -> Self {
        Self {
            zone,
            days,
            from,
            to,
        }
    }

    /// The state at `now`, until the next boundary of this window.
    fn state(&self, now: Moment) -> State {
        self.state_in(now).unwrap_or(State {
            holds: false,
            until: Moment::NEVER,
        })
    }

    /// `None` where the calendar ends.
    fn state_in(&self, now: Moment) -> Option<State> {
        let micros = i64::try_from(now.as_micros()).ok()?;
        let now = Timestamp::from_microsecond(micros).ok()?;
        let mut date = self.zone.to_datetime(now).date().yesterday().ok()?;
        // Yesterday's may still last; a window of one day a week begins at most a week from here.
        for _ in 0..9 {
            if self.days & (1 << date.weekday().to_monday_zero_offset()) != 0 {
                let next_day = u16::from(self.to <= self.from) * DAY;
                let start = self.instant(date, self.from)?;
                let end = self.instant(date, self.to + next_day)?;
                if end > now && end > start {
                    let holds = start <= now;
                    let until = moment(if holds { end } else { start });
                    return Some(State { holds, until });
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn instant(&self, date: Date, minutes: u16) -> Option<Timestamp> {
        let date = date.checked_add(i64::from(minutes / DAY).days()).ok()?;
        let minutes = minutes % DAY;
        let hour = i8::try_from(minutes / 60).ok()?;
        let minute = i8::try_from(minutes % 60).ok()?;
        let civil: DateTime = date.at(hour, minute, 0, 0);
        self.zone.to_timestamp(civil).ok()
    }
}

fn moment(timestamp: Timestamp) -> Moment {
    u64::try_from(timestamp.as_microsecond())
        .map_or_else(|_| Moment::default(), Moment::from_micros)
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let days: Vec<&str> = (0..7)
            .filter(|day| self.days & (1 << day) != 0)
            .map(|day| names[day])
            .collect();
        let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let zone = self.zone.iana_name().unwrap_or("?");
        let (from, to) = (clock(self.from), clock(self.to));
        write!(f, "{} {from}-{to} {zone}", days.join(","))
    }
}

/// Several windows: one that holds is enough.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hours(pub(super) Vec<Window>);

impl Hours {
    /// Whether one of the windows holds at `now`, and until when that is so.
    pub(super) fn state(&self, now: Moment) -> State {
        let (holds, mut until) = self.look(now);
        for _ in 0..BOUNDARIES_MAX {
            if until == Moment::NEVER {
                break;
            }
            let (then, later) = self.look(until);
            if then != holds {
                break;
            }
            until = later;
        }
        State { holds, until }
    }

    fn look(&self, now: Moment) -> (bool, Moment) {
        let states = self.0.iter().map(|window| window.state(now));
        states.fold((false, Moment::NEVER), |(holds, until), state| {
            (holds || state.holds, until.min(state.until))
        })
    }
}

/// A time zone, for those who keep hours of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(TimeZone);

impl Zone {
    /// By its IANA name.
    pub fn find(name: &str) -> Option<Self> {
        zone(name).map(Self)
    }

    /// Minutes east of UTC at `now`, and until when that is so.
    pub fn offset(&self, now: Moment) -> (i16, Moment) {
        let found = i64::try_from(now.as_micros()).ok();
        let Some(at) = found.and_then(|micros| Timestamp::from_microsecond(micros).ok()) else {
            return (0, Moment::NEVER);
        };
        let seconds = self.0.to_offset(at).seconds();
        let next = self.0.following(at).next();
        let until = next.map_or(Moment::NEVER, |next| moment(next.timestamp()));
        (i16::try_from(seconds / 60).unwrap_or(0), until)
    }
}

/// When mail of a tenant or a campaign may go out.
#[derive(Clone, Debug)]
pub(super) struct DeliveryWindow {
    pub(super) hours: Hours,
    pub(super) place: Place,
}

/// A zone of the bundled IANA database; the machine's own is not asked.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    jiff::tz::TimeZoneDatabase::bundled().get(name).ok()
}

/// `mon`, `Monday`: bit 0 is Monday.
pub(super) fn day(text: &str) -> Option<u8> {
    let names = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    let text = text.to_ascii_lowercase();
    let index = names
        .iter()
        .position(|name| *name == text || name[..3] == text)?;
    Some(1 << index)
}

/// `08:30`, up to `24:00`, as minutes after midnight.
pub(super) fn clock(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |t: &str| t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= DAY).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Moment {
        moment(text.parse().unwrap())
    }

    fn hours(name: &str, days: u8, from: &str, to: &str) -> Hours {
        let (from, to) = (clock(from).unwrap(), clock(to).unwrap());
        Hours(vec![Window::new(zone(name).unwrap(), days, from, to)])
    }

    fn told(hours: &Hours, now: &str) -> (bool, String) {
        let state = hours.state(at(now));
        (state.holds, state.until.rfc3339().to_string()[..16].into())
    }

    #[test]
    fn working_hours_hold_by_the_zones_own_clock() {
        let berlin = hours("Europe/Berlin", Window::WORKING_DAYS, "08:00", "18:00");
        for (now, holds, until) in [
            ("2026-11-24T06:59:59Z", false, "2026-11-24T07:00"),
            ("2026-11-24T07:00:00Z", true, "2026-11-24T17:00"),
            ("2026-11-24T17:00:00Z", false, "2026-11-25T07:00"),
            // Friday evening to Monday; and the same hours an hour earlier by UTC in summer.
            ("2026-11-27T17:00:00Z", false, "2026-11-30T07:00"),
            ("2026-07-01T06:30:00Z", true, "2026-07-01T16:00"),
            // Clocks go back on Sunday: Monday's start is by the new clock.
            ("2026-10-23T17:00:00Z", false, "2026-10-26T07:00"),
        ] {
            assert_eq!(told(&berlin, now), (holds, until.to_owned()), "{now}");
        }
    }

    #[test]
    fn a_window_may_cross_midnight() {
        let night = hours("America/New_York", Window::EVERY_DAY, "22:00", "06:00");
        for (now, holds, until) in [
            ("2026-01-10T02:59:00Z", false, "2026-01-10T03:00"),
            ("2026-01-10T03:00:00Z", true, "2026-01-10T11:00"),
            ("2026-01-10T10:59:00Z", true, "2026-01-10T11:00"),
            ("2026-01-10T11:00:00Z", false, "2026-01-11T03:00"),
        ] {
            assert_eq!(told(&night, now), (holds, until.to_owned()), "{now}");
        }
    }

    #[test]
    fn a_boundary_that_changes_nothing_is_no_change() {
        let weekend = hours("UTC", 0b110_0000, "00:00", "24:00");
        assert_eq!(
            told(&weekend, "2026-11-28T10:00:00Z"),
            (true, "2026-11-30T00:00".into())
        );
        let mut both = hours("UTC", Window::EVERY_DAY, "08:00", "12:00");
        both.0
            .extend(hours("UTC", Window::EVERY_DAY, "12:00", "16:00").0);
        assert_eq!(
            told(&both, "2026-11-28T10:00:00Z"),
            (true, "2026-11-28T16:00".into())
        );
    }

    #[test]
    fn an_hour_that_is_skipped_in_spring_empties_no_day() {
        // 02:30 does not exist on 2026-03-29 in Berlin; the window begins when it would have.
        let gap = hours("Europe/Berlin", Window::EVERY_DAY, "02:30", "04:00");
        assert_eq!(
            told(&gap, "2026-03-29T00:00:00Z"),
            (false, "2026-03-29T01:30".into())
        );
        // One that would end before it begins does not hold that day.
        let lost = hours("Europe/Berlin", Window::EVERY_DAY, "02:30", "03:10");
        assert_eq!(
            told(&lost, "2026-03-29T00:00:00Z"),
            (false, "2026-03-30T00:30".into())
        );
    }

    #[test]
    fn the_end_of_the_calendar_is_no_panic() {
        let berlin = hours("Europe/Berlin", Window::EVERY_DAY, "08:00", "18:00");
        assert_eq!(berlin.state(Moment::NEVER).until, Moment::NEVER);
        assert!(!berlin.state(Moment::from_micros(0)).holds);
    }

    #[test]
    fn days_clocks_and_zones_are_read() {
        assert_eq!(
            (day("Mon"), day("sunday"), day("x")),
            (Some(1), Some(64), None)
        );
        assert_eq!((clock("08:30"), clock("24:00")), (Some(510), Some(1_440)));
        for bad in ["8:30", "24:01", "08:60", "0830", "", "-1:00"] {
            assert_eq!(clock(bad), None, "{bad}");
        }
        assert!(zone("Mars/Olympus").is_none() && zone("asia/kolkata").is_some());
    }
}
