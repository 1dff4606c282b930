//! From a file to a checked script: read, compiled, run once in a throw-away VM to see that it returns what a script must.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mlua::{Table, Value as Lv};
use serde_json::{Map, Value};

use super::context::Context;
use super::failure::{self, Failure};
use super::point::{self, Point, ROWS};
use super::vm::Vm;
use super::{convert, stdlib};
use crate::config::agent::HookOptions;
use crate::config::{Fault, HookEntry, OnError, Place};
use crate::error::Kind;

/// The longest script, in bytes.
const MAX_SOURCE: u64 = 1 << 20;

/// A script of an agent, with what its entry in the configuration says.
pub(super) struct Script {
    /// The path as the configuration has it; also the name in errors.
    pub name: Arc<str>,
    pub bytecode: Vec<u8>,
    pub folder: Arc<Folder>,
    /// The script's defaults, overridden by the entry: always an object.
    pub config: Value,
    pub on_error: OnError,
    pub hold: bool,
    /// Lua CPU per hook call.
    pub budget: Duration,
    /// The hooks, and the lines where they are written.
    points: Vec<(Point, usize)>,
}

impl Script {
    /// Whether the script has a hook for `point`.
    pub(super) fn defines(&self, point: Point) -> bool {
        self.points.iter().any(|(defined, _)| *defined == point)
    }

    /// `script:line` of the hook for `point`: the place of what is nobody's line.
    pub(super) fn place(&self, point: Point) -> String {
        match self.points.iter().find(|(defined, _)| *defined == point) {
            Some((_, line)) => format!("{}:{line}", self.name),
            None => self.name.to_string(),
        }
    }
}

/// The Lua files of one folder, as they were when the configuration was loaded: what scripts in it may require.
#[derive(Default)]
pub(super) struct Folder {
    siblings: BTreeMap<String, Sibling>,
}

/// A file that scripts may require.
pub(super) struct Sibling {
    /// The path, for errors.
    pub name: String,
    source: String,
    bytecode: OnceLock<Result<Vec<u8>, String>>,
}

impl Folder {
    /// The file `name.lua` beside the script.
    pub(super) fn find(&self, name: &str) -> Option<&Sibling> {
        self.siblings.get(name)
    }

    /// Reads the folder of the script at `path`. A file that cannot be read is not there.
    pub(super) fn read(root: &Path, path: &Path) -> Folder {
        let folder = path.parent().unwrap_or(Path::new(""));
        let files = fs::read_dir(root.join(folder)).into_iter().flatten().flatten().map(|entry| entry.path());
        let siblings = files.filter(|file| file.extension().is_some_and(|extension| extension == "lua")).filter_map(|file| {
            let stem = file.file_stem()?.to_str()?.to_owned();
            let source = read_source(&file).ok()?;
            let name = folder.join(file.file_name()?).display().to_string();
            Some((stem, Sibling { name, source, bytecode: OnceLock::new() }))
        });
        Folder { siblings: siblings.collect() }
    }
}

impl Sibling {
    /// Compiled when it is first required.
    pub(super) fn bytecode(&self) -> Result<&[u8], String> {
        let compiled = self.bytecode.get_or_init(|| {
            stdlib::compile(&self.source).map_err(|error| {
                let (line, message) = syntax(&error);
                format!("{}:{line}: {message}", self.name)
            })
        });
        compiled.as_deref().map_err(String::clone)
    }
}

/// Reads and checks the scripts of one agent, and says of everything that is wrong where it stands.
/// Faults of an entry itself have no place and the key `[1].config.limit`, for whoever knows where the entries stand.
pub(super) fn load(entries: &[HookEntry], root: &Path) -> Result<Vec<Script>, Vec<Fault>> {
    let mut loader = Loader { root, vm: None, folders: BTreeMap::new(), faults: Vec::new() };
    let scripts: Vec<Script> = entries.iter().enumerate().filter_map(|(index, entry)| loader.script(index, &options(entry))).collect();
    if loader.faults.is_empty() { Ok(scripts) } else { Err(loader.faults) }
}

/// The script's path and options, however the entry was written.
fn options(entry: &HookEntry) -> HookOptions {
    match entry {
        HookEntry::Options(options) => options.clone(),
        HookEntry::Path(path) => HookOptions {
            script: path.clone(),
            config: Map::new(),
            on_error: OnError::default(),
            hold: false,
            timeout: Duration::from_millis(50),
        },
    }
}

struct Loader<'a> {
    root: &'a Path,
    /// Runs the scripts once; replaced when one of them spoils it.
    vm: Option<Vm>,
    folders: BTreeMap<PathBuf, Arc<Folder>>,
    faults: Vec<Fault>,
}

impl Loader<'_> {
    fn script(&mut self, index: usize, options: &HookOptions) -> Option<Script> {
        let path = Path::new(&options.script);
        let name: Arc<str> = options.script.as_str().into();
        let source = match read_source(&self.root.join(path)) {
            Ok(source) => source,
            Err(problem) => return self.entry_fault(index, "", format!("cannot read the script {name}: {problem}")),
        };
        let bytecode = match stdlib::compile(&source) {
            Ok(bytecode) => bytecode,
            Err(error) => {
                let (line, message) = syntax(&error);
                return self.script_fault(&name, line, message);
            }
        };
        let key = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let folder = Arc::clone(self.folders.entry(key).or_insert_with(|| Arc::new(Folder::read(self.root, path))));
        let mut script = Script {
            name,
            bytecode,
            folder,
            config: Value::Null,
            on_error: options.on_error,
            hold: options.hold,
            budget: options.timeout,
            points: Vec::new(),
        };
        let known = self.faults.len();
        match self.run(&script) {
            Ok((vm, table)) => {
                self.check_hooks(&mut script, &table, &source);
                self.check_config(&mut script, &vm, &table, &source, index, options);
                drop(table);
                self.vm = Some(vm);
            }
            Err(failure) => {
                let (file, line, message) = failure::split_place(&failure.text).unwrap_or((&script.name, 1, &failure.text));
                let message = match failure.kind {
                    Kind::HookTimeout => format!("the script took more than {:?} of CPU to load", script.budget),
                    _ => message.strip_prefix(&format!("{}: ", script.name)).unwrap_or(message).to_owned(),
                };
                self.script_fault::<()>(file, line, message);
            }
        }
        (self.faults.len() == known).then_some(script)
    }

    /// Runs the script as a run would, and gives the VM back with the table that it returned.
    fn run(&mut self, script: &Script) -> Result<(Vm, Table), Failure> {
        let unready = |error: mlua::Error| Failure::raised(&script.name, &error);
        let vm = self.vm.take().map_or_else(Vm::new, Ok).map_err(unready)?;
        vm.tidy().and_then(|()| vm.cap(0)).map_err(unready)?;
        let modules = vm.lua.create_table().map_err(unready)?;
        let (name, folder) = (Arc::clone(&script.name), Arc::clone(&script.folder));
        vm.lua.set_app_data(Context::new(name, folder, modules, Arc::clone(&vm.meter)));
        vm.meter.start(script.budget);
        let returned = vm.meter.block(|| vm.function(&script.name, &script.bytecode)?.call::<Lv>(()));
        match returned {
            _ if vm.meter.is_overdue() => Err(Failure::late(vm.meter.place().as_deref().unwrap_or(&script.name))),
            Ok(Lv::Table(table)) => Ok((vm, table)),
            Ok(other) => Err(Failure {
                kind: Kind::HookError,
                text: format!(
                    "a script returns a table of hooks, and this one returned {}: end it with `return {{ pre_prompt = ... }}`",
                    other.type_name()
                ),
            }),
            Err(error) => Err(Failure::raised(&script.name, &error)),
        }
    }

    /// Every key of the table is `config` or a hook point.
    fn check_hooks(&mut self, script: &mut Script, table: &Table, source: &str) {
        for (key, value) in table.pairs::<Lv, Lv>().flatten() {
            let key = key.as_string().map(|key| key.to_string_lossy()).unwrap_or_else(|| format!("[{}]", key.type_name()));
            if key == "config" {
                continue;
            }
            let line = line_of(source, &key, value.as_function());
            let row = ROWS.iter().find(|row| row.name == key);
            let problem = match row.map(|row| row.point) {
                Some(point) if value.is_function() => {
                    script.points.push((point, line));
                    continue;
                }
                Some(_) => format!("`{key}` is a hook and must be a function, not {}", value.type_name()),
                None => {
                    let near = point::suggest(&key, ROWS.iter().map(|row| row.name).chain(["config"]));
                    let hint = near.map(|near| format!(": did you mean `{near}`?"));
                    format!("`{key}` is not a hook{}", hint.unwrap_or_else(|| "; keep helpers in local functions".into()))
                }
            };
            self.script_fault::<()>(&script.name, line, problem);
        }
    }

    /// The script's defaults with the entry's values over them.
    fn check_config(&mut self, script: &mut Script, vm: &Vm, table: &Table, source: &str, index: usize, options: &HookOptions) {
        let defaults = match table.raw_get::<Lv>("config") {
            Ok(Lv::Nil) => Ok(Map::new()),
            Ok(value @ Lv::Table(_)) => {
                convert::from_lua(&vm.lua, &value).map_err(|misfit| format!("`config`{misfit}")).and_then(|config| match config {
                    Value::Object(defaults) => Ok(defaults),
                    _ => Err("`config` is a table with names, not a list".into()),
                })
            }
            Ok(other) => Err(format!("`config` is a table, not {}", other.type_name())),
            Err(error) => Err(error.to_string()),
        };
        let mut config = match defaults {
            Ok(defaults) => defaults,
            Err(problem) => {
                self.script_fault::<()>(&script.name, line_of(source, "config", None), problem);
                return;
            }
        };
        for (key, value) in &options.config {
            if let Some(default) = config.get_mut(key) {
                *default = value.clone();
                continue;
            }
            let near = point::suggest(key, config.keys().map(String::as_str));
            let known: Vec<&str> = config.keys().map(String::as_str).collect();
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "the script has no `config`".into(),
                None => format!("it has {}", known.join(", ")),
            };
            let message = format!("{} has no `{key}` in its `config`: {hint}", script.name);
            self.entry_fault::<()>(index, &format!(".config.{key}"), message);
        }
        script.config = Value::Object(config);
    }

    fn entry_fault<T>(&mut self, index: usize, key: &str, message: String) -> Option<T> {
        self.faults.push(Fault { place: None, key: format!("[{index}]{key}"), message });
        None
    }

    fn script_fault<T>(&mut self, file: &str, line: usize, message: String) -> Option<T> {
        self.faults.push(Fault { place: Some(Place { file: file.into(), line, column: 1 }), key: String::new(), message });
        None
    }
}

/// A script's text: UTF-8, and not longer than a script can be.
pub(super) fn read_source(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?;
    if !size.is_file() {
        return Err("it is not a file".into());
    }
    if size.len() > MAX_SOURCE {
        return Err(format!("it is longer than {MAX_SOURCE} bytes"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".into())
}

/// Line and words of a syntax error, which Luau writes as `12: Expected ...`.
pub(super) fn syntax(error: &mlua::Error) -> (usize, String) {
    let text = failure::described(error);
    let parsed = text.split_once(':').and_then(|(line, message)| Some((line.trim().parse().ok()?, message.trim().to_owned())));
    parsed.unwrap_or((1, text))
}

/// Where the field `key` of a script's table is written: where its function stands, or else the first line with the word.
fn line_of(source: &str, key: &str, function: Option<&mlua::Function>) -> usize {
    let defined = function.and_then(|function| function.info().line_defined).filter(|line| *line > 0);
    let word = |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == key);
    defined.unwrap_or_else(|| source.lines().position(word).map_or(1, |line| line + 1))
}
