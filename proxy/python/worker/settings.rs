//! What the gateway says to a worker on its command line: `--settings` and a JSON object.

use std::ffi::OsString;
use std::path::PathBuf;

use moongate::sandbox::Rules;
use serde::Deserialize;

/// What a worker is told when it starts. Python gets the text as well, and reads its own part of it.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) venv: Option<PathBuf>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) sandbox: Option<Rules>,
    pub(super) text: String,
}

#[derive(Deserialize)]
struct Document {
    root: PathBuf,
    venv: Option<PathBuf>,
    memory_bytes: Option<u64>,
    sandbox: Option<Sandbox>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sandbox {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    network: Network,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Network {
    None,
    Allow,
}

impl Settings {
    /// Reads the arguments after the program's name.
    pub(super) fn from_arguments(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        const USAGE: &str = "the gateway starts this program, as `moongate-python --settings '{...}'`";
        let (option, text, more) = (arguments.next(), arguments.next(), arguments.next());
        let (Some(option), Some(text), None) = (option, text, more) else { return Err(USAGE.to_owned()) };
        if option != "--settings" {
            return Err(USAGE.to_owned());
        }
        Self::parse(text.into_string().map_err(|_| "the settings are not UTF-8".to_owned())?)
    }

    fn parse(text: String) -> Result<Self, String> {
        let document: Document = serde_json::from_str(&text).map_err(|e| format!("the settings cannot be read: {e}"))?;
        let sandbox =
            document.sandbox.map(|sandbox| Rules { read: sandbox.read, write: sandbox.write, network: sandbox.network == Network::Allow });
        let listed = sandbox.iter().flat_map(|rules| rules.read.iter().chain(&rules.write));
        // A relative one would mean something else after a change of folder.
        if let Some(path) = [&document.root].into_iter().chain(&document.venv).chain(listed).find(|path| !path.is_absolute()) {
            return Err(format!("the settings name `{}`, which is no absolute path", path.display()));
        }
        Ok(Self { venv: document.venv, memory_bytes: document.memory_bytes, sandbox, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text.to_owned())
    }

    #[test]
    fn reads_what_the_gateway_writes() {
        let text = r#"{"root":"/r","venv":"/r/.venv","memory_bytes":1024,"tracing":false,
            "sandbox":{"read":["/r"],"write":["/r/out"],"network":"none"}}"#;
        let settings = parse(text).unwrap();
        assert_eq!(settings.venv, Some("/r/.venv".into()));
        assert_eq!(settings.memory_bytes, Some(1024));
        assert_eq!(settings.sandbox, Some(Rules { read: vec!["/r".into()], write: vec!["/r/out".into()], network: false }));
        assert_eq!(settings.text, text);
    }

    #[test]
    fn reads_settings_without_venv_and_sandbox() {
        let settings = parse(r#"{"root":"/r","venv":null,"memory_bytes":null,"tracing":true,"sandbox":null}"#).unwrap();
        assert_eq!((settings.venv, settings.memory_bytes, settings.sandbox), (None, None, None));
    }

    #[test]
    fn says_what_is_wrong() {
        let wrong = [
            ("{", "the settings cannot be read: EOF while parsing an object at line 1 column 1"),
            (r#"{"venv":null}"#, "the settings cannot be read: missing field `root` at line 1 column 13"),
            (r#"{"root":"r"}"#, "the settings name `r`, which is no absolute path"),
            (r#"{"root":"/r","sandbox":{"read":["x"],"write":[],"network":"none"}}"#, "the settings name `x`, which is no absolute path"),
        ];
        for (text, message) in wrong {
            assert_eq!(parse(text).unwrap_err(), message);
        }
        let rest = parse(r#"{"root":"/r","sandbox":{"read":[],"write":[],"network":"some"}}"#).unwrap_err();
        assert!(rest.contains("unknown variant `some`, expected `none` or `allow`"), "{rest}");
    }

    #[test]
    fn wants_its_one_option() {
        for arguments in [vec![], vec!["--settings"], vec!["--help"], vec!["--settings", "{}", "more"], vec!["--other", "{}"]] {
            let arguments = arguments.into_iter().map(OsString::from);
            assert!(Settings::from_arguments(arguments).unwrap_err().starts_with("the gateway starts this program"));
        }
    }
}
