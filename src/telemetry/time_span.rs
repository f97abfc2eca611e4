//! Durations as people read them, in log lines, on the status page and on the command line.

use std::time::Duration;

/// Renders a duration in its two largest units, such as `1 h 4 min`; below ten seconds with one decimal.
#[must_use]
pub fn for_people(time: Duration) -> String {
    let tenths = time.as_millis().div_ceil(100);
    if tenths < 100 {
        return match (tenths / 10, tenths % 10) {
            (whole, 0) => format!("{whole} s"),
            (whole, tenth) => format!("{whole}.{tenth} s"),
        };
    }
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() >= 500_000_000);
    let minutes = (seconds + 30) / 60;
    let hours = (minutes + 30) / 60;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => joined((seconds / 60, "min"), (seconds % 60, "s")),
        _ if minutes < 24 * 60 => joined((minutes / 60, "h"), (minutes % 60, "min")),
        _ => joined((hours / 24, "d"), (hours % 24, "h")),
    }
}

fn joined((large, unit): (u64, &str), (small, of): (u64, &str)) -> String {
    if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {of}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each duration is told in at most two units, and no part is zero.
    #[test]
    fn durations_are_for_people() {
        let told = |millis| for_people(Duration::from_millis(millis));
        assert_eq!(
            [0, 40, 1_000, 2_500, 9_999, 12_400, 59_900].map(told),
            ["0 s", "0.1 s", "1 s", "2.5 s", "10 s", "12 s", "1 min"]
        );
        assert_eq!(
            [60_000, 64_000, 600_000, 3_599_000, 3_603_500, 3_840_000].map(told),
            ["1 min", "1 min 4 s", "10 min", "59 min 59 s", "1 h", "1 h 4 min"]
        );
        assert_eq!([86_340_000, 86_400_000, 200_000_000].map(told), ["23 h 59 min", "1 d", "2 d 8 h"]);
    }
}
