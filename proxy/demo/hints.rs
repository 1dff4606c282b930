//! What a message offers to fill a tool's arguments with: places, numbers, quotes, and the words after the tool's name.

use super::mention::{is_common, words};

/// What a message offers to fill a value with.
#[derive(Debug, Clone, Default)]
pub(super) struct Hints {
    /// Names after "in" or "for".
    pub(super) places: Vec<String>,
    /// The whole message, or what follows the tool's name in it.
    rest: String,
    /// Texts in quotes, not used yet.
    quoted: Vec<String>,
    /// Numbers with the words beside them, not used yet.
    numbers: Vec<(f64, Vec<String>)>,
    /// All words.
    said: Vec<String>,
}

impl Hints {
    /// Reads `text`, a message to the tool `name` (empty for none).
    pub(super) fn read(text: &str, name: &str) -> Self {
        Hints { rest: rest(text, &words(name)), places: places(text), quoted: quoted(text), numbers: numbers(text), said: words(text) }
    }

    /// Whether there are numbers left.
    pub(super) fn has_numbers(&self) -> bool {
        !self.numbers.is_empty()
    }

    /// Takes the first number that is left.
    pub(super) fn next_number(&mut self) -> Option<f64> {
        self.has_numbers().then(|| self.numbers.remove(0).0)
    }

    /// Takes the number beside one of the words of `name`: 20 for `sides` in "3 dice with 20 sides".
    pub(super) fn number_beside(&mut self, name: &[String]) -> Option<f64> {
        let at = self.numbers.iter().position(|(_, beside)| beside.iter().any(|word| name.iter().any(|part| alike(word, part))))?;
        Some(self.numbers.remove(at).0)
    }
    /// The next text in quotes, else what the message says after the tool's name, else a word of the demo's own.
    pub(super) fn next_text(&mut self) -> String {
        match (self.quoted.is_empty(), self.rest.is_empty()) {
            (false, _) => self.quoted.remove(0),
            (true, false) => self.rest.clone(),
            (true, true) => "demo".to_owned(),
        }
    }

    /// Whether the message has these words in this order.
    pub(super) fn mentions(&self, phrase: &[String]) -> bool {
        !phrase.is_empty() && self.said.windows(phrase.len()).any(|window| window == phrase)
    }
}

/// Whether two words are forms of one: `side` and `sided`.
fn alike(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    short == long || (short.len() >= 4 && long.starts_with(short))
}

fn quoted(text: &str) -> Vec<String> {
    let straight = text.split('"').skip(1).step_by(2).take(text.matches('"').count() / 2);
    let curly = text.split('“').skip(1).filter_map(|part| part.split_once('”')).map(|(quote, _)| quote);
    straight.chain(curly).filter(|quote| !quote.is_empty()).map(str::to_owned).collect()
}

/// The numbers of a text, digits or words, each with the words before and after it.
fn numbers(text: &str) -> Vec<(f64, Vec<String>)> {
    const NAMES: [&str; 13] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
    let parts: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c == '-').map(|part| part.trim_matches(|c: char| !c.is_alphanumeric())).collect();
    let number = |part: &str| {
        let digits = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let named = || NAMES.iter().zip(0u8..).find(|(name, _)| name.eq_ignore_ascii_case(part)).map(|(_, n)| f64::from(n));
        part[..part.len() - digits].parse().ok().or_else(named)
    };
    let beside = |at: Option<usize>| {
        at.and_then(|at| parts.get(at)).filter(|part| number(part).is_none()).map(|part| words(part)).unwrap_or_default()
    };
    let found = parts.iter().enumerate().filter_map(|(i, part)| number(part).map(|n| (i, n)));
    found.map(|(i, n)| (n, [beside(i.checked_sub(1)), beside(Some(i + 1))].concat())).collect()
}

/// The places of a text: capitalised names after "in" or "for", or one plain word after "in".
fn places(text: &str) -> Vec<String> {
    let mut places = Vec::new();
    let mut parts = text.split_whitespace().peekable();
    while let Some(part) = parts.next() {
        if !part.eq_ignore_ascii_case("in") && !part.eq_ignore_ascii_case("for") {
            continue;
        }
        let mut place = String::new();
        while let Some(next) = parts.peek().copied() {
            let name = next.trim_matches(|c: char| !c.is_alphanumeric());
            if name.starts_with(char::is_uppercase) {
                place = if place.is_empty() { name.to_owned() } else { format!("{place} {name}") };
                if next.ends_with(|c: char| !c.is_alphanumeric()) {
                    places.extend(Some(std::mem::take(&mut place)));
                }
            } else if next == "and" && !place.is_empty() {
                places.push(std::mem::take(&mut place));
            } else {
                let plain = part.eq_ignore_ascii_case("in") && places.is_empty() && place.is_empty();
                if plain && name.chars().all(char::is_alphabetic) && !is_common(&name.to_lowercase()) {
                    places.push(name.to_owned());
                }
                break;
            }
            parts.next();
        }
        places.extend(Some(place).filter(|place| !place.is_empty()));
    }
    places.dedup();
    places
}

/// What follows the last word of `name` in `text`, without common words at its start; the whole text when nothing does.
fn rest(text: &str, name: &[String]) -> String {
    let is_edge = |c: char| c.is_whitespace() || ",;:?!.".contains(c);
    let mut rest = text;
    let mut at = 0;
    for part in text.split_inclusive(char::is_whitespace) {
        at += part.len();
        if words(part).iter().any(|word| name.contains(word) && !is_common(word)) {
            rest = &text[at..];
        }
    }
    let mut rest = rest.trim_matches(is_edge);
    while let Some((first, more)) = rest.split_once(char::is_whitespace) {
        if !words(first).iter().all(|word| is_common(word)) || words(first).is_empty() {
            break;
        }
        rest = more.trim_start();
    }
    if rest.is_empty() { text.trim().to_owned() } else { rest.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_names_after_in_or_for() {
        assert_eq!(places("weather in Paris, London and New York"), ["Paris", "London", "New York"]);
        assert_eq!(places("the weather in Paris and the time"), ["Paris"]);
        assert_eq!(places("a forecast for Rome? in rome, I mean"), ["Rome"]);
        assert_eq!(places("in the morning, for me"), [""; 0]);
    }

    #[test]
    fn numbers_know_their_neighbours() {
        let said = numbers("Roll three 20-sided dice, 2.5 times");
        assert_eq!(said.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [3.0, 20.0, 2.5]);
        let mut hints = Hints::read("Roll three 20-sided dice", "roll_dice");
        assert_eq!((hints.number_beside(&words("n_sides")), hints.next_number(), hints.next_number()), (Some(20.0), Some(3.0), None));
    }

    #[test]
    fn texts_are_quotes_first() {
        let mut hints = Hints::read("search “one” and \"two\" for me", "search");
        let mut texts = [hints.next_text(), hints.next_text()];
        texts.sort();
        assert_eq!(texts, ["one", "two"]);
        assert!(hints.mentions(&words("for me")) && !hints.mentions(&[]));
        assert_eq!(Hints::default().next_text(), "demo");
    }
}
