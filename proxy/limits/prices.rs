//! What tokens cost, by upstream and model.

use globset::{Glob, GlobMatcher};
use serde_json::Value;

use crate::chat::Usage;
use crate::config::document::{self, Ordered};

/// Per how many tokens prices are.
const PER: f64 = 1e6;

/// What a model costs, per million tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    input: f64,
    cached_input: f64,
    output: f64,
}

/// The prices of a snapshot.
#[derive(Debug, Default)]
pub struct Prices(Vec<(GlobMatcher, Price)>);

impl Prices {
    /// Reads the prices. `Err` names the model whose pattern is none.
    pub fn build(prices: &Ordered<document::Price>) -> Result<Prices, (String, String)> {
        let read = |(model, price): (&String, &document::Price)| {
            let matcher = Glob::new(model).map_err(|e| (model.clone(), e.to_string()))?.compile_matcher();
            let cached_input = price.cached_input.unwrap_or(price.input);
            Ok((matcher, Price { input: price.input, cached_input, output: price.output }))
        };
        prices.iter().map(read).collect::<Result<_, _>>().map(Prices)
    }

    /// The price of a model, by its name at this upstream: the first pattern in the order of the configuration that fits `upstream/model` or
    /// `model`.
    pub fn of(&self, upstream: &str, model: &str) -> Option<Price> {
        if self.0.is_empty() {
            return None;
        }
        let whole = format!("{upstream}/{model}");
        let fits = |matcher: &GlobMatcher| matcher.is_match(&whole) || matcher.is_match(model);
        self.0.iter().find(|(matcher, _)| fits(matcher)).map(|(_, price)| *price)
    }
}

impl Price {
    /// What these tokens cost. Those that the server took from its cache may be cheaper.
    pub fn cost(&self, usage: &Usage) -> f64 {
        let cached = usage.details.get("prompt_tokens_details").and_then(|details| details.get("cached_tokens")).and_then(Value::as_u64);
        let cached = cached.unwrap_or(0).min(usage.prompt_tokens);
        let price = |tokens: u64, price: f64| tokens as f64 * price / PER;
        price(usage.prompt_tokens - cached, self.input) + price(cached, self.cached_input) + price(usage.completion_tokens, self.output)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn prices(list: &[(&str, f64)]) -> Prices {
        let price = |input| document::Price { input, output: 2.0 * input, cached_input: Some(input / 10.0) };
        Prices::build(&list.iter().map(|(model, input)| ((*model).to_owned(), price(*input))).collect()).unwrap()
    }

    #[test]
    fn the_first_that_fits_counts() {
        let prices = prices(&[("openai/gpt-4o*", 1.0), ("gpt-4o", 2.0), ("local/*", 0.0)]);
        let of = |upstream, model| prices.of(upstream, model).map(|price| price.input);
        assert_eq!(
            [of("openai", "gpt-4o-mini"), of("other", "gpt-4o"), of("local", "x"), of("other", "x")],
            [Some(1.0), Some(2.0), Some(0.0), None]
        );
        assert_eq!(Prices::default().of("a", "b"), None);
        let broken = [("[".to_owned(), document::Price { input: 1.0, output: 1.0, cached_input: None })].into_iter().collect();
        assert_eq!(Prices::build(&broken).unwrap_err().0, "[");
    }

    #[test]
    fn cached_tokens_have_their_own_price() {
        let usage = |cached: u64| Usage {
            prompt_tokens: 1_000_000,
            completion_tokens: 500_000,
            details: json!({ "prompt_tokens_details": { "cached_tokens": cached } }).as_object().cloned().unwrap(),
            ..Usage::default()
        };
        let price = prices(&[("*", 10.0)]).of("u", "m").unwrap();
        assert!((price.cost(&usage(0)) - 20.0).abs() < 1e-9);
        assert!((price.cost(&usage(500_000)) - 15.5).abs() < 1e-9);
        assert!((price.cost(&usage(u64::MAX)) - 11.0).abs() < 1e-9, "no more than there were");
    }
}
