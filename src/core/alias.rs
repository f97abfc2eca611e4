//! Drawing in proportion to weights in constant time: the alias method (Walker 1977, Vose 1991).

/// A table of weights to draw from; a draw costs the same for ten entries as for ten thousand.
#[derive(Debug, Clone, Default)]
pub struct Alias {
    /// For each column, the chance of its own entry in `u32::MAX`ths, and the entry that has the rest.
    columns: Vec<(u32, u32)>,
}

impl Alias {
    /// The table of these weights; entries of weight 0 are never drawn.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "probabilities in thirty-two bits are exact enough, and indices are bounded by the configuration"
    )]
    pub fn new(weights: &[u32]) -> Self {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        if total == 0 {
            return Self::default();
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
        Self { columns }
    }

    /// The entry that one uniform number draws; `None` if all weights are 0.
    #[must_use]
    pub fn draw(&self, random: u64) -> Option<usize> {
        let count = u64::try_from(self.columns.len()).ok()?;
        // The upper half of the number chooses the column, the lower half decides inside it.
        let column = ((random >> 32) * count) >> 32;
        let index = usize::try_from(column).ok()?;
        let (chance, other) = *self.columns.get(index)?;
        let own = chance == u32::MAX || random & u64::from(u32::MAX) < u64::from(chance);
        Some(if own { index } else { other as usize })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Goal: every entry's share follows its weight, and weight 0 is never drawn.
        #[test]
        fn shares_follow_weights(weights in prop::collection::vec(0u32..20, 1..12), seed: u64) {
            let table = Alias::new(&weights);
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let mut random = fastrand::Rng::with_seed(seed);
            let mut drawn = vec![0u32; weights.len()];
            for _ in 0..20_000 {
                drawn[table.draw(random.u64(..)).unwrap()] += 1;
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
        assert_eq!(Alias::new(&[]).draw(7), None);
        assert_eq!(Alias::new(&[0, 0]).draw(7), None);
        assert_eq!(Alias::new(&[0, 3]).draw(u64::MAX), Some(1));
    }
}
