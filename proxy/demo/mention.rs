//! Which of the offered tools a message speaks of.

use serde_json::Value;

/// Words that name no tool: a message or a tool has them whatever it is about.
const COMMON: &[&str] = &[
    "about",
    "after",
    "all",
    "also",
    "and",
    "any",
    "are",
    "argument",
    "ask",
    "available",
    "before",
    "call",
    "can",
    "chat",
    "content",
    "could",
    "current",
    "data",
    "default",
    "does",
    "each",
    "for",
    "from",
    "function",
    "get",
    "give",
    "given",
    "has",
    "have",
    "hello",
    "help",
    "here",
    "how",
    "information",
    "input",
    "into",
    "its",
    "latest",
    "let",
    "like",
    "list",
    "make",
    "may",
    "me",
    "message",
    "model",
    "more",
    "must",
    "name",
    "new",
    "not",
    "now",
    "number",
    "one",
    "only",
    "optional",
    "other",
    "out",
    "output",
    "parameter",
    "please",
    "provided",
    "result",
    "return",
    "run",
    "say",
    "set",
    "should",
    "show",
    "some",
    "specific",
    "specified",
    "string",
    "tell",
    "text",
    "than",
    "thank",
    "that",
    "the",
    "them",
    "then",
    "there",
    "these",
    "this",
    "tool",
    "use",
    "used",
    "user",
    "using",
    "value",
    "want",
    "was",
    "what",
    "when",
    "where",
    "which",
    "will",
    "with",
    "word",
    "would",
    "you",
    "your",
];

/// A tool as a request offers it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tool<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    /// The JSON Schema of its arguments; null when it takes none.
    pub(super) parameters: &'a Value,
}

impl<'a> Tool<'a> {
    /// Reads OpenAI's definition. `None` for kinds other than functions.
    pub(super) fn read(definition: &'a Value) -> Option<Self> {
        let function = definition.get("function")?;
        Some(Tool {
            name: function.get("name")?.as_str()?,
            description: function.get("description").and_then(Value::as_str).unwrap_or_default(),
            parameters: function.get("parameters").unwrap_or(&Value::Null),
        })
    }
}

/// The tools that `text` speaks of, in the order in which they are offered.
///
/// A tool is named by its whole name, or by a word of it that no other tool's name has (`weather` for `get_weather`).
/// When none is, those count that have all their words in the text; and when there are none,
/// the one whose description shares most words with the text that no other description has.
pub(super) fn mentioned<'a>(tools: &[Tool<'a>], text: &str) -> Vec<Tool<'a>> {
    let said = words(text);
    let names: Vec<Vec<String>> = tools.iter().map(|tool| words(tool.name)).collect();
    let pick = |is_meant: &dyn Fn(&[String]) -> bool| -> Vec<Tool<'a>> {
        tools.iter().zip(&names).filter(|(_, name)| is_meant(name)).map(|(tool, _)| *tool).collect()
    };
    let by_name = pick(&|name| {
        let whole = !name.is_empty() && said.windows(name.len()).any(|window| window == name);
        whole || name.iter().any(|word| said.contains(word) && is_telling(word, &names))
    });
    if !by_name.is_empty() {
        return by_name;
    }
    let by_all_words = pick(&|name| {
        let mut telling = name.iter().filter(|word| !is_common(word)).peekable();
        telling.peek().is_some() && telling.all(|word| said.contains(word))
    });
    if !by_all_words.is_empty() {
        return by_all_words;
    }
    let descriptions: Vec<Vec<String>> = tools.iter().map(|tool| words(tool.description)).collect();
    let shared = |description: &[String]| {
        let is_shared = |word: &&String| word.len() >= 4 && said.contains(word) && is_telling(word, &descriptions);
        description.iter().filter(is_shared).count()
    };
    // The first of the best: `max_by_key` keeps the last.
    let best = tools.iter().zip(&descriptions).map(|(tool, description)| (shared(description), *tool)).rev().max_by_key(|(n, _)| *n);
    best.filter(|(n, _)| *n > 0).map(|(_, tool)| tool).into_iter().collect()
}

/// The words of a text or a name (`getWeather` has two), lower case, without plural endings.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in text.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && after_lower) {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        after_lower = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words.iter_mut().filter(|word| word.len() > 3 && word.ends_with('s') && !word.ends_with("ss")).for_each(|word| {
        word.pop();
    });
    words
}

/// Whether a word says so little that it cannot stand for a tool.
pub(super) fn is_common(word: &str) -> bool {
    word.len() < 3 || COMMON.contains(&word)
}

/// Whether a word tells one of `texts` from the others.
fn is_telling(word: &String, texts: &[Vec<String>]) -> bool {
    !is_common(word) && texts.iter().filter(|text| text.contains(word)).count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(offered: &[(&'static str, &'static str)], text: &str) -> Vec<&'static str> {
        let tools: Vec<Tool> = offered.iter().map(|(name, description)| Tool { name, description, parameters: &Value::Null }).collect();
        let found = mentioned(&tools, text);
        offered.iter().map(|(name, _)| *name).filter(|name| found.iter().any(|tool| tool.name == *name)).collect()
    }

    const EVERYDAY: [(&str, &str); 3] =
        [("get_weather", "The weather in a city"), ("get_time", "What time it is"), ("rollDice", "Throws dice")];

    #[test]
    fn a_word_of_the_name_is_enough() {
        assert_eq!(names(&EVERYDAY, "How is the weather in Paris?"), ["get_weather"]);
        assert_eq!(names(&EVERYDAY, "please roll one"), ["rollDice"]);
        assert_eq!(names(&EVERYDAY, "Weather and time, please"), ["get_weather", "get_time"]);
        assert_eq!(names(&EVERYDAY, "Hello! What can you get me?"), [""; 0]);
    }

    #[test]
    fn a_word_that_two_names_share_is_not() {
        let files = [("read_file", ""), ("write_file", ""), ("read_many_files", "")];
        assert_eq!(names(&files, "what is in the file?"), [""; 0]);
        assert_eq!(names(&files, "write the file"), ["write_file"]);
        assert_eq!(names(&files, "use read_file"), ["read_file"]);
        assert_eq!(names(&files, "read this one file"), ["read_file"]);
    }

    #[test]
    fn the_description_counts_when_no_name_does() {
        let tools = [("current", "Current weather in a city"), ("forecast", "Outlook for the week in a city")];
        assert_eq!(names(&tools, "How is the weather?"), ["current"]);
        assert_eq!(names(&tools, "Which city do you like?"), [""; 0]);
    }
}
