//! How much work a pattern can make of each byte of a text.

/// How many characters the pattern stands for when its counts are written out; of alternatives the longest. A rough measure: it tells
/// `[ab]{500}`, where every byte of a text may begin another match, from a long list of words, where hardly any does.
pub(super) fn weight(pattern: &str) -> usize {
    /// A group that is open.
    #[derive(Default)]
    struct Group {
        longest: usize,
        sum: usize,
        last: usize,
    }
    let (mut above, mut group): (Vec<Group>, Group) = (Vec::new(), Group::default());
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        let mut piece = 1;
        match c {
            '*' | '+' | '?' | '^' | '$' => continue,
            '|' => {
                group.longest = group.longest.max(group.sum);
                (group.sum, group.last) = (0, 0);
                continue;
            }
            '(' => {
                above.push(std::mem::take(&mut group));
                continue;
            }
            ')' => {
                piece = group.longest.max(group.sum);
                group = above.pop().unwrap_or_default();
            }
            '{' => {
                let (count, _) = rest.as_str().split_once('}').unwrap_or_default();
                let most = count.rsplit(',').find_map(|n| n.trim().parse::<usize>().ok());
                group.sum = group.sum.saturating_add(group.last.saturating_mul(most.unwrap_or(1).saturating_sub(1)));
                rest.by_ref().find(|c| *c == '}');
                continue;
            }
            // `\p{Greek}` has a name in braces, which is no count.
            '\\' => {
                let class = rest.next();
                if class.is_some_and(|class| "pPxuU".contains(class)) && rest.as_str().starts_with('{') {
                    rest.by_ref().find(|c| *c == '}');
                }
            }
            '[' => skip_class(&mut rest),
            _ => {}
        }
        group.sum = group.sum.saturating_add(piece);
        group.last = piece;
    }
    group.longest.max(group.sum)
}

/// Passes the rest of a class: `[^]a-z[:alpha:]\]]`.
fn skip_class(rest: &mut std::str::Chars) {
    let (mut depth, mut first) = (1, true);
    while let Some(c) = rest.next() {
        match c {
            '\\' => _ = rest.next(),
            '[' => depth += 1,
            ']' if !first => depth -= 1,
            _ => {}
        }
        first = first && c == '^';
        if depth == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_make_a_pattern_heavy() {
        for (pattern, expected) in [
            ("", 0),
            (r"\d{4}-\d{2}", 7),
            ("[ab]*a[ab]{200}c", 203),
            ("(?:ab){1,3}", 9),
            ("a{2,}b", 3),
            ("one|three|[]x{5}]{7}", 7),
            (r"\p{Greek}{2}\{[^\]{9}]", 4),
            ("(a(b|cd){10}){10}", 210),
            ("x{y}", 1),
        ] {
            // A group that does not capture counts its `:`.
            assert_eq!(weight(pattern), expected, "{pattern}");
        }
    }
}
