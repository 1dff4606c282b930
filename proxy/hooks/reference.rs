//! The reference of what scripts find, docs/scripting-reference.md, written from the files that editors read and the table of hook points.

use std::fmt::Write;

use super::point::ROWS;
use super::stdlib;

const META: &str = include_str!("../../lua-stdlib/_meta/hooks.lua");

const INTRODUCTION: &str = "# What scripts find

The hooks, what each gets, and the modules that a script may `require`. How to write, try and test a script: [scripting.md](scripting.md).

This page is written from the source: `MOONGATE_WRITE=1 cargo test --release --lib hooks::reference` writes it anew. Editors that know
LuaCATS (the Lua language server) show the same while you type: `scripts/.luarc.json` points them there.
";

/// The whole page, in Markdown.
fn markdown() -> String {
    let mut page = format!("{INTRODUCTION}\n## Hooks\n\n| hook | fires | verdicts |\n|---|---|---|\n");
    let items = items(META);
    let script = items.iter().find(|item| item.name == "Script").expect("the class Script");
    for row in &ROWS {
        let field = script.fields.iter().find(|field| field.name.trim_end_matches('?') == row.name).expect("a field for each hook");
        let (_, about) = field.about.split_once("Verdict? ").expect("the hook's type, then when it fires");
        let verdicts: Vec<String> = row.verdicts.iter().map(|verdict| format!("`{verdict}`")).collect();
        let _ = writeln!(page, "| `{}({}, run)` | {about} | {} |", row.name, row.argument.0, verdicts.join(", "));
    }
    page.push_str("\n## Types\n");
    items.iter().filter(|item| item.name != "Script").for_each(|item| item.write(&mut page, ""));
    page.push_str("\n## Modules\n");
    for (name, source) in stdlib::sources() {
        let about = source.lines().map_while(|line| line.strip_prefix("--- ")).collect::<Vec<_>>().join(" ");
        let _ = writeln!(page, "\n### `{name}`\n\n{about}");
        let short = name.trim_start_matches("std.");
        self::items(source).iter().filter(|item| item.name != name).for_each(|item| item.write(&mut page, short));
    }
    page
}

/// A class or a function of a Lua file, with the comment above it.
#[derive(Debug, Default)]
struct Item {
    /// `std.http.Response`, `http.get(url, options)`, `Run:answer(value)`.
    name: String,
    about: String,
    fields: Vec<Field>,
    params: Vec<Field>,
    returns: Vec<String>,
    is_function: bool,
}

#[derive(Debug)]
struct Field {
    name: String,
    /// The type and what it is for, as written.
    about: String,
}

impl Item {
    fn write(&self, page: &mut String, module: &str) {
        let returns = if self.returns.is_empty() { String::new() } else { format!(" → {}", self.returns.join(", ")) };
        if self.is_function {
            let _ = writeln!(page, "\n**`{}`**{returns}  \n{}", self.name, self.about);
        } else {
            let level = if module.is_empty() { "###" } else { "####" };
            let about = if self.about.is_empty() { String::new() } else { format!("\n{}\n", self.about) };
            let _ = writeln!(page, "\n{level} `{}`\n{about}", self.name);
        }
        for field in self.fields.iter().chain(&self.params) {
            let (kind, about) = split_type(&field.about);
            let about = if about.is_empty() { String::new() } else { format!(": {about}") };
            let _ = writeln!(page, "- `{}` ({}){about}", field.name, kind.replace('|', " or "));
        }
    }
}

/// A type, which may have spaces in brackets or after `:` and `,`, and the words behind it.
fn split_type(text: &str) -> (&str, &str) {
    let mut depth = 0;
    let mut before = ' ';
    for (place, character) in text.char_indices() {
        match character {
            '(' | '<' | '{' | '[' => depth += 1,
            ')' | '>' | '}' | ']' => depth -= 1,
            ' ' if depth == 0 && !matches!(before, ':' | ',') => return (&text[..place], text[place..].trim()),
            _ => {}
        }
        before = character;
    }
    (text, "")
}

/// The classes and the documented functions of a file, in its order.
fn items(source: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut item = Item::default();
    for line in source.lines() {
        if let Some(comment) = line.strip_prefix("---") {
            let comment = comment.trim();
            if let Some(class) = comment.strip_prefix("@class ") {
                item.name = class.split(' ').next().unwrap_or(class).to_owned();
            } else if let Some(field) = comment.strip_prefix("@field ") {
                item.fields.push(named(field));
            } else if let Some(param) = comment.strip_prefix("@param ") {
                item.params.push(named(param));
            } else if let Some(returned) = comment.strip_prefix("@return ") {
                item.returns.push(format!("`{}`", returned.split("  ").next().unwrap_or(returned)));
            } else if !comment.starts_with('@') && !item.name.is_empty() {
                item.fields.last_mut().map_or(&mut item.about, |field| &mut field.about).extend([" ", comment]);
            } else if !comment.starts_with('@') {
                item.about = format!("{} {comment}", item.about).trim().to_owned();
            }
            continue;
        }
        if let Some(function) = line.strip_prefix("function ") {
            let name = function.strip_suffix(" end").unwrap_or(function).to_owned();
            items.push(Item { name, is_function: true, ..std::mem::take(&mut item) });
        } else if !item.name.is_empty() {
            items.push(std::mem::take(&mut item));
        }
        item = Item::default();
    }
    // What a class says of its methods is not said again where they are written.
    let of_class: Vec<String> = items
        .iter()
        .flat_map(|item| &item.fields)
        .filter(|field| field.about.starts_with("fun(self"))
        .map(|field| field.name.clone())
        .collect();
    items.retain(|item| {
        let method = item.name.split_once(':').and_then(|(_, method)| method.split('(').next());
        method.is_none_or(|method| !of_class.iter().any(|name| name == method))
    });
    items
}

fn named(text: &str) -> Field {
    let (name, about) = text.split_once(' ').unwrap_or((text, ""));
    Field { name: name.to_owned(), about: about.to_owned() }
}

#[test]
fn the_page_is_what_the_source_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/scripting-reference.md");
    let page = markdown();
    if std::env::var_os("MOONGATE_WRITE").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page,
        "docs/scripting-reference.md is not what the source says: MOONGATE_WRITE=1 cargo test --release --lib hooks::reference"
    );
}

/// A function that a script can call, and that neither says what it does nor what its parameters are, helps nobody.
#[test]
fn every_function_of_a_module_is_described() {
    for (module, source) in stdlib::sources().chain([("hooks", META)]) {
        for item in items(source).iter().filter(|item| item.is_function) {
            assert!(!item.about.is_empty(), "{module}: {} says nothing", item.name);
            let (_, list) = item.name.split_once('(').expect("a list of parameters");
            let names = list.trim_end_matches(')').split(", ").filter(|name| !name.is_empty());
            let documented: Vec<&str> = item.params.iter().map(|param| param.name.trim_end_matches('?')).collect();
            assert_eq!(names.collect::<Vec<_>>(), documented, "{module}: the parameters of {}", item.name);
        }
    }
}
