//! Drawing in proportion to weights in constant time: the alias method (Walker 1977, Vose 1991).
//!
//! A column says of both entries that it can draw what is to be known of them, so that a draw reads one place in memory.

/// A table of weights to draw from; a draw costs the same for ten entries as for ten thousand.
#[derive(Debug, Clone)]
pub struct Alias<T> {
    columns: Box<[Column<T>]>,
}

/// One column; aligned so that it never lies across two lines of the cache as long as a face has four bytes.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
struct Column<T> {
    /// The chance of the column's own entry in `u32::MAX`ths.
    chance: u32,
    /// The position of the entry that has the rest.
    other: u32,
    /// What is known of the own entry, and of the other.
    faces: [T; 2],
}

impl<T: Copy> Alias<T> {
    /// The table of these weights and of what is to be known of their entries; entries of weight 0 are never drawn.
    #[must_use]
    pub fn new(entries: &[(u32, T)]) -> Self {
        let weights: Vec<u32> = entries.iter().map(|(weight, _)| *weight).collect();
        let column = |(own, (chance, other)): (&(u32, T), (u32, u32))| {
            let faces = [own.1, entries.get(other as usize)?.1];
            Some(Column { chance, other, faces })
        };
        Self { columns: entries.iter().zip(shares(&weights)).filter_map(column).collect() }
    }

    /// The entry that one uniform number draws, and its position; `None` if all weights are 0.
    #[must_use]
    pub fn draw(&self, random: u64) -> Option<(usize, T)> {
        let count = u64::try_from(self.columns.len()).ok()?;
        // The upper half of the number chooses the column, the lower half decides inside it.
        let index = usize::try_from(((random >> 32) * count) >> 32).ok()?;
        let column = self.columns.get(index)?;
        // No branch: which of the two it is cannot be foretold.
        let other = (column.chance != u32::MAX) & (random & u64::from(u32::MAX) >= u64::from(column.chance));
        let position = if other { column.other as usize } else { index };
        Some((position, *column.faces.get(usize::from(other))?))
    }
}

/// For each column, the chance of its own entry in `u32::MAX`ths, and the entry that has the rest; none if there is
/// nothing to draw.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "probabilities in thirty-two bits are exact enough, and indices are bounded by the configuration"
)]
fn shares(weights: &[u32]) -> Vec<(u32, u32)> {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if total == 0 {
        return Vec::new();
    }
    let mean = total as f64 / weights.len() as f64;
    let mut scaled: Vec<f64> = weights.iter().map(|weight| f64::from(*weight) / mean).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..scaled.len()).partition(|index| scaled.get(*index).is_some_and(|chance| *chance < 1.0));
    let mut columns: Vec<(u32, u32)> = (0..scaled.len()).map(|index| (u32::MAX, index as u32)).collect();
    while let (Some(less), Some(more)) = (small.pop(), large.last().copied()) {
        let chance = scaled.get(less).copied().unwrap_or(0.0);
        if let Some(column) = columns.get_mut(less) {
            *column = ((chance * f64::from(u32::MAX)) as u32, more as u32);
        }
        if let Some(rest) = scaled.get_mut(more) {
            *rest -= 1.0 - chance;
            if *rest < 1.0 {
                large.pop();
                small.push(more);
            }
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Goal: every entry's share follows its weight, and weight 0 is never drawn.
        #[test]
        fn shares_follow_weights(weights in prop::collection::vec(0u32..20, 1..12), seed: u64) {
            let entries: Vec<_> = weights.iter().map(|weight| (*weight, *weight)).collect();
            let table = Alias::new(&entries);
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let mut random = fastrand::Rng::with_seed(seed);
            let mut drawn = vec![0u32; weights.len()];
            for _ in 0..20_000 {
                let (index, face) = table.draw(random.u64(..)).unwrap();
                prop_assert_eq!(face, weights[index]);
                drawn[index] += 1;
            }
            for (weight, count) in weights.iter().zip(drawn) {
                let expected = f64::from(*weight) / f64::from(total);
                prop_assert!((f64::from(count) / 20_000.0 - expected).abs() < 0.02);
                prop_assert!(*weight > 0 || count == 0);
            }
        }
    }

    /// Goal: nothing to draw from gives nothing.
    #[test]
    fn nothing_gives_nothing() {
        let draw = |entries: &[(u32, char)], random| Alias::new(entries).draw(random);
        assert_eq!(draw(&[], 7), None);
        assert_eq!(draw(&[(0, 'a'), (0, 'b')], 7), None);
        assert_eq!(draw(&[(0, 'a'), (3, 'b')], 0), Some((1, 'b')));
        assert_eq!(draw(&[(0, 'a'), (3, 'b')], u64::MAX), Some((1, 'b')));
    }
}
