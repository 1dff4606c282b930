//! The table of hook points: their names, when they fire, and which verdicts they take. Checks, messages and `_meta/hooks.lua` follow it.

/// A place in the life of a run at which scripts may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// Once, before the messages of a client's request are decoded.
    OnRequest,
    /// Before each model call.
    PrePrompt,
    /// For each piece of content.
    OnChunk,
    /// Before each tool call that the gateway executes.
    OnToolCall,
    /// After each such call.
    OnToolResult,
    /// Once, with the final reply.
    PostResponse,
    /// Once, when the run failed.
    OnError,
}

impl Point {
    /// The hook's name in a script: `pre_prompt`, ...
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The point's row of the table.
    pub(super) fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

/// What is true of one hook point.
pub(super) struct Row {
    /// The hook's name in a script.
    pub name: &'static str,
    /// The name and the type of the hook's first argument, as `_meta/hooks.lua` has them.
    pub argument: (&'static str, &'static str),
    /// The point.
    pub point: Point,
    /// The verdicts that mean something here.
    pub verdicts: &'static [&'static str],
}

const fn row(point: Point, name: &'static str, argument: (&'static str, &'static str), verdicts: &'static [&'static str]) -> Row {
    Row { name, argument, point, verdicts }
}

const ALL: &[&str] = &["answer", "reject", "abort"];

/// Every hook point, in the order of `Point`, which is the order in which they fire.
pub(super) const ROWS: [Row; 7] = [
    row(Point::OnRequest, "on_request", ("head", "Head"), &["reject", "abort"]),
    row(Point::PrePrompt, "pre_prompt", ("prompt", "Prompt"), ALL),
    row(Point::OnChunk, "on_chunk", ("chunk", "Chunk"), &["abort"]),
    row(Point::OnToolCall, "on_tool_call", ("call", "ToolCall"), ALL),
    row(Point::OnToolResult, "on_tool_result", ("result", "ToolResult"), &["reject", "abort"]),
    row(Point::PostResponse, "post_response", ("reply", "Reply"), ALL),
    row(Point::OnError, "on_error", ("failure", "Failure"), &["answer", "abort"]),
];

/// Why a hook may not return `verdict` here, in words for the script's author.
pub(super) fn check(row: &Row, verdict: &str) -> Result<(), String> {
    if row.verdicts.contains(&verdict) {
        return Ok(());
    }
    let legal: Vec<String> = row.verdicts.iter().map(|name| format!("`run:{name}`")).collect();
    Err(format!("`run:{verdict}` means nothing in `{}`; here you may return {} or nothing", row.name, legal.join(", ")))
}

/// The one of `known` that `name` was probably meant to be.
pub(super) fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        // Of a short name one wrong letter is a large part.
        .filter(|(likeness, candidate)| *likeness > 0.8 || (candidate.len() > 2 && strsim::osa_distance(name, candidate) == 1))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_point_finds_its_own_row() {
        for row in &ROWS {
            assert_eq!(row.point.name(), row.name);
        }
    }

    #[test]
    fn an_illegal_verdict_names_the_legal_ones() {
        let message = check(&ROWS[6], "reject").unwrap_err();
        assert_eq!(message, "`run:reject` means nothing in `on_error`; here you may return `run:answer`, `run:abort` or nothing");
        assert!(check(&ROWS[6], "answer").is_ok());
    }

    #[test]
    fn a_near_miss_is_recognised_and_a_stranger_is_not() {
        let names = || ROWS.iter().map(|row| row.name);
        assert_eq!(suggest("on_toolcall", names()), Some("on_tool_call"));
        assert_eq!(suggest("helper", names()), None);
    }

    /// The types that editors read name every point with its argument.
    #[test]
    fn the_meta_file_is_equal_to_the_table() {
        let meta = include_str!("../../lua-stdlib/_meta/hooks.lua");
        let (_, class) = meta.split_once("---@class Script\n").expect("the class Script");
        let written: Vec<&str> =
            class.lines().take_while(|line| line.starts_with("---@field")).filter(|line| line.contains("fun(")).collect();
        let expected: Vec<String> = ROWS
            .iter()
            .map(|row| format!("---@field {}? fun({}: {}, run: Run): Verdict?", row.name, row.argument.0, row.argument.1))
            .collect();
        assert_eq!(written.len(), expected.len(), "{written:?}");
        for (written, expected) in written.iter().zip(&expected) {
            assert!(written.starts_with(expected.as_str()), "{written} is not {expected}");
        }
    }
}
