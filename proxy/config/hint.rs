//! "Did you mean": which known name a written one was meant to be.

/// So many names are listed; the longest list of a document's keys fits.
const MAX_LISTED: usize = 24;

/// What is close enough to `written` to be what was meant.
pub(super) fn near<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&written, &candidate.to_lowercase());
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count().min(written.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The name that was meant, as a question, or else all there are.
pub(super) fn hint<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str> + Clone, otherwise: &str) -> String {
    if let Some(near) = near(written, candidates.clone()) {
        return format!("did you mean `{near}`?");
    }
    let mut all: Vec<String> = candidates.into_iter().map(|candidate| format!("`{candidate}`")).collect();
    if all.is_empty() {
        return "there are none".into();
    }
    let n_more = all.len().saturating_sub(MAX_LISTED);
    if n_more > 0 {
        all.truncate(MAX_LISTED);
        all.push(format!("and {n_more} more"));
    }
    format!("{otherwise} {}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_near_and_other_words_are_not() {
        let keys = ["name", "model", "max_tool_hops", "id"];
        assert_eq!(near("nmae", keys), Some("name"));
        assert_eq!(near("Model", keys), Some("model"));
        assert_eq!(near("max_tool_hop", keys), Some("max_tool_hops"));
        assert_eq!(near("max_hops", keys), None);
        assert_eq!(near("description", keys), None);
        assert_eq!(near("url", keys), None);
    }

    #[test]
    fn without_a_near_name_all_are_listed() {
        assert_eq!(hint("modle", ["model", "name"], "allowed are"), "did you mean `model`?");
        assert_eq!(hint("xyz", ["model", "name"], "allowed are"), "allowed are `model`, `name`");
        let many: Vec<String> = (10..50).map(|i| format!("agent-number-{i}")).collect();
        assert!(hint("xyz", many.iter().map(String::as_str), "there are").ends_with("`agent-number-33`, and 16 more"));
        assert_eq!(hint("xyz", [], "allowed are"), "there are none");
    }
}
