//! Durations and sizes, which always carry their unit.

use std::time::Duration;

/// The longest duration that makes sense anywhere.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
const UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// `2s`, `500ms`, `10m`, `1h 30m`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|duration| *duration <= DURATION_MAX)
}

/// `64KiB`, `32MiB`, `1GB`, `512B`.
pub(super) fn size(text: &str) -> Option<usize> {
    let (number, factor) =
        UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    number.trim().parse::<u64>().ok()?.checked_mul(factor)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: quantities need a unit, and nonsense is none.
    #[test]
    fn quantities_carry_units() {
        assert_eq!(duration("1h 30m"), Some(Duration::from_secs(5400)));
        assert_eq!((duration("5"), duration(""), duration("9999h")), (None, None, None));
        assert_eq!((size("32MiB"), size("64 KB"), size("7B")), (Some(32 << 20), Some(64_000), Some(7)));
        assert_eq!((size("32"), size("-1B"), size("99999999999GiB"), size("MiB")), (None, None, None, None));
    }
}
