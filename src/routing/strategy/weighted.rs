//! At random in proportion to the weights.

/// Draws the indices of `weights` one by one without putting them back, each with a chance of its weight in what is
/// left. The first is thus drawn in exact proportion, and when it fails its share goes to the others in proportion to
/// theirs. Weights of 0 are reserves: last, in the order written.
pub(super) fn order(weights: impl ExactSizeIterator<Item = f64>, draw: &mut dyn FnMut() -> f64) -> Vec<usize> {
    let mut drawn = Vec::with_capacity(weights.len());
    let (mut left, reserves): (Vec<_>, Vec<_>) = weights.enumerate().partition(|(_, weight)| *weight > 0.0);
    while left.len() > 1 {
        let mut point = draw() * left.iter().map(|(_, weight)| weight).sum::<f64>();
        let hit = left.iter().position(|(_, weight)| {
            point -= weight;
            point < 0.0
        });
        // Rounding may leave the point at the very end, which is the last one's.
        drawn.push(left.remove(hit.unwrap_or(left.len() - 1)).0);
    }
    drawn.extend(left.iter().chain(&reserves).map(|(index, _)| index));
    drawn
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draw_of(seed: u64) -> impl FnMut() -> f64 {
        let mut random = fastrand::Rng::with_seed(seed);
        move || random.f64()
    }

    proptest! {
        #[test]
        fn every_target_appears_once_and_reserves_come_last(
            weights in prop::collection::vec(prop_oneof![Just(0.0), 0.001..1e6f64], 0..12),
            seed: u64,
        ) {
            let drawn = order(weights.iter().copied(), &mut draw_of(seed));
            let mut sorted = drawn.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..weights.len()).collect::<Vec<_>>());
            let reserves: Vec<usize> = drawn.iter().copied().skip_while(|i| weights[*i] > 0.0).collect();
            prop_assert!(reserves.iter().all(|i| weights[*i] == 0.0) && reserves.is_sorted());
        }

        #[test]
        fn draws_at_the_edges_are_in_range(
            weights in prop::collection::vec(0.001..1e6f64, 1..12),
            edge in prop_oneof![Just(0.0), Just(1.0 - f64::EPSILON), Just(1.0)],
        ) {
            prop_assert_eq!(order(weights.iter().copied(), &mut || edge).len(), weights.len());
        }

        #[test]
        fn the_first_is_drawn_in_proportion_and_so_is_the_next(
            weights in prop::collection::vec(0.5..4.0f64, 2..5),
            seed: u64,
        ) {
            const DRAWS: usize = 20_000;
            let total: f64 = weights.iter().sum();
            let mut first = vec![0; weights.len()];
            let mut second = vec![vec![0; weights.len()]; weights.len()];
            let mut draw = draw_of(seed);
            for _ in 0..DRAWS {
                let drawn = order(weights.iter().copied(), &mut draw);
                first[drawn[0]] += 1;
                second[drawn[0]][drawn[1]] += 1;
            }
            // Five standard deviations of a binomial share: one false alarm in a million.
            let near = |count: i32, of: f64, share: f64| (f64::from(count) - of * share).abs() <= 5.0 * (of * share * (1.0 - share)).sqrt() + 1.0;
            for (i, weight) in weights.iter().enumerate() {
                prop_assert!(near(first[i], DRAWS as f64, weight / total), "{:?} {:?}", weights, first);
                for (j, other) in weights.iter().enumerate().filter(|(j, _)| *j != i) {
                    let share = (other / (total - weight)).min(1.0);
                    prop_assert!(near(second[i][j], f64::from(first[i]), share), "{:?} {:?}", weights, second);
                }
            }
        }
    }
}
