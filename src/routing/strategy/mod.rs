//! In which order the targets of a model are tried. A strategy is a pure function of the targets and a draw.

mod ordered;
mod weighted;

use std::sync::Arc;

use super::{models::Target, settings::Strategy};

/// The indices of `targets`, each exactly once, in the order to try. `draw` gives uniform numbers in [0, 1).
pub(super) fn order(strategy: Strategy, targets: &[Arc<Target>], draw: &mut dyn FnMut() -> f64) -> Vec<usize> {
    match strategy {
        Strategy::Ordered => ordered::order(targets.len()),
        Strategy::Weighted => weighted::order(targets.iter().map(|target| target.weight), draw),
    }
}
