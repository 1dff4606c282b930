//! What went wrong in a script: the full text for the log, one harmless sentence for the client.

use crate::error::{Error, Kind};

/// Why a hook call failed. All of it is a bug of the script.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// `HookError`, `HookTimeout` or `HookMemory`.
    pub kind: Kind,
    /// `script:line: what`, for the log.
    pub text: String,
}

impl Failure {
    /// The script or hook at `place` returned, made or left something that it must not.
    pub(super) fn misuse(place: &str, problem: impl std::fmt::Display) -> Self {
        Failure { kind: Kind::HookError, text: format!("{place}: {problem}") }
    }

    /// The script or hook at `place` was stopped by `error`, which may know better where that was.
    pub(super) fn raised(place: &str, error: &mlua::Error) -> Self {
        let text = placed(error);
        let text = if split_place(&text).is_some() { text } else { format!("{place}: {text}") };
        Failure { kind: if is_memory(error) { Kind::HookMemory } else { Kind::HookError }, text }
    }

    /// The script used up its budget at `place`, whatever it made of the error.
    pub(super) fn late(place: &str) -> Self {
        Failure { kind: Kind::HookTimeout, text: format!("{place}: the hook used up its CPU budget") }
    }

    /// Whether the VM may have more of it in store: then nobody uses it again.
    pub(super) fn spoils_vm(&self) -> bool {
        self.kind != Kind::HookError
    }

    /// The error of the run. The client learns neither script nor line.
    pub(super) fn into_error(self) -> Error {
        let message = match self.kind {
            Kind::HookTimeout => "a hook of this agent took too long",
            Kind::HookMemory => "a hook of this agent needed too much memory",
            _ => "a hook of this agent failed",
        };
        Error::new(self.kind, message).source(self.text)
    }
}

/// `file:line: what` of an error, and just `what` if no script has a part in it. What was raised inside `std.*` is said of the script
/// that called it.
pub(super) fn placed(error: &mlua::Error) -> String {
    let text = described(error);
    let inner = match split_place(&text) {
        Some((file, _, what)) if file.starts_with(MODULES) => what,
        Some(_) => return text,
        None => &text,
    };
    match called_at(error) {
        Some(place) => format!("{place}: {inner}"),
        None => text,
    }
}

/// How the names of the program's own modules begin.
const MODULES: &str = "std.";

/// `file:line: what`, without Lua's stack.
pub(super) fn described(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { traceback, cause } => {
            let inner = described(cause);
            // A file that the script requires is a script, too: its line is nearer than that of the `require`.
            let is_placed = match &**cause {
                mlua::Error::CallbackError { .. } | mlua::Error::SyntaxError { .. } => true,
                cause => raised_at(cause).is_some() && split_place(&inner).is_some_and(|(file, ..)| !file.starts_with(MODULES)),
            };
            match place(traceback) {
                Some(place) if !is_placed => match split_place(&inner) {
                    Some((file, _, what)) if file.starts_with(MODULES) => format!("{place}: {what}"),
                    _ => format!("{place}: {inner}"),
                },
                _ => inner,
            }
        }
        mlua::Error::WithContext { cause, .. } => described(cause),
        mlua::Error::RuntimeError(text) | mlua::Error::MemoryError(text) => without_stack(text).to_owned(),
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        other => without_stack(&other.to_string()).to_owned(),
    }
}

/// `file:line` and the rest of a message that begins so.
pub(super) fn split_place(text: &str) -> Option<(&str, usize, &str)> {
    let mut from = 0;
    while let Some(colon) = text[from..].find(':').map(|place| place + from) {
        let rest = &text[colon + 1..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if let (Ok(line), Some(rest)) = (rest[..digits].parse(), rest[digits..].strip_prefix(':')) {
            return (!text[..colon].contains('\n')).then_some((&text[..colon], line, rest.trim_start()));
        }
        from = colon + 1;
    }
    None
}

/// The innermost line of a stack that stands in a script.
pub(super) fn place(traceback: &str) -> Option<&str> {
    traceback.lines().skip(1).map(str::trim).filter(|line| !["[", "std.", "__mlua"].iter().any(|inner| line.starts_with(inner))).find_map(
        |line| {
            let colon = line.find(':')?;
            let digits = line[colon + 1..].bytes().take_while(u8::is_ascii_digit).count();
            (digits > 0).then(|| &line[..colon + 1 + digits])
        },
    )
}

/// The innermost line of a script in any of an error's stacks.
fn called_at(error: &mlua::Error) -> Option<&str> {
    match error {
        mlua::Error::CallbackError { traceback, cause } => called_at(cause).or_else(|| place(traceback)),
        error => raised_at(error),
    }
}

/// Where an error was raised that does not begin with it: one whose object is no text.
fn raised_at(error: &mlua::Error) -> Option<&str> {
    match error {
        mlua::Error::RuntimeError(text) | mlua::Error::MemoryError(text) => place(&text[text.find(STACK)? + 1..]),
        mlua::Error::WithContext { cause, .. } => raised_at(cause),
        _ => None,
    }
}

/// What stands between an error's text and Lua's stack.
const STACK: &str = "\nstack traceback:";

fn without_stack(text: &str) -> &str {
    text.split(STACK).next().unwrap_or(text).trim_end()
}

/// Whether a script ran into the memory cap.
pub(super) fn is_memory(error: &mlua::Error) -> bool {
    match error {
        mlua::Error::MemoryError(_) => true,
        mlua::Error::CallbackError { cause, .. } | mlua::Error::WithContext { cause, .. } => is_memory(cause),
        mlua::Error::RuntimeError(text) => without_stack(text).ends_with("not enough memory"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_reads_nothing_of_the_script() {
        let error = Failure::misuse("scripts/secret.lua", "boom").into_error();
        assert_eq!(error.message, "a hook of this agent failed");
        assert_eq!(error.chain(), "a hook of this agent failed: scripts/secret.lua: boom");
    }

    #[test]
    fn an_error_that_is_no_text_has_the_line_of_its_stack() {
        let raised = |text: &str| Failure::raised("x.lua:2", &mlua::Error::runtime(text)).text;
        assert_eq!(raised("table: 0x1\nstack traceback:\n[C] in error\nx.lua:4 in inner\nx.lua:9"), "x.lua:4: table: 0x1");
        assert_eq!(raised("x.lua:7: boom\nstack traceback:\n[C] in error\nx.lua:4"), "x.lua:7: boom");
        assert_eq!(raised("not enough memory"), "x.lua:2: not enough memory");
    }

    #[test]
    fn a_place_is_split_from_its_message() {
        assert_eq!(split_place("scripts/x.lua:12: at 10:30: boom"), Some(("scripts/x.lua", 12, "at 10:30: boom")));
        assert_eq!(split_place("C: drive:7: boom"), Some(("C: drive", 7, "boom")));
        assert_eq!(split_place("no place"), None);
    }
}
