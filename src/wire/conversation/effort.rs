//! Effort as a word and thinking as a number of tokens: one table for both ways. Anthropic takes budgets from 1024
//! tokens on; `minimal` is that least one, and every further step is about twice the one before.

/// Effort and the budget that stands for it, in tokens.
const BUDGETS: &[(&str, u64)] =
    &[("minimal", 1024), ("low", 2048), ("medium", 8192), ("high", 16_384), ("xhigh", 32_768), ("max", 65_536)];

/// The thinking budget that an effort stands for, in tokens. `None` for `none` and for words not known here.
pub fn budget_of(effort: &str) -> Option<u64> {
    BUDGETS.iter().find(|(word, _)| *word == effort).map(|(_, budget)| *budget)
}

/// The effort that a thinking budget stands for: the highest whose budget it reaches, and `low` to `high` only, since
/// those are the words that every model knows.
pub fn effort_of(budget: u64) -> &'static str {
    match budget {
        0..8192 => "low",
        8192..16_384 => "medium",
        _ => "high",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efforts_every_model_knows_come_back_from_their_budgets() {
        for effort in ["low", "medium", "high"] {
            assert_eq!(budget_of(effort).map(effort_of), Some(effort));
        }
        assert_eq!(budget_of("minimal").map(effort_of), Some("low"));
        assert_eq!(budget_of("max").map(effort_of), Some("high"));
        assert_eq!(budget_of("none"), None);
    }
}
