//! From documents to tools: what is wrong with an agent's `tools`, or what they mean.

use std::collections::HashSet;
use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde_json::{Value, json};

use crate::config::ToolDoc;
use crate::config::agent::ToolProvider;
use crate::config::document::Ordered;
use crate::python::Python;

use super::egress::Egress;
use super::http::HttpTool;
use super::mcp::McpServer;
use super::schema::Schema;
use super::select::{Pick, Source, is_name};
use super::{Kind, Tool, Tools};

/// A key relative to the agent's document (`tools[0].url`), and what is wrong there.
pub type Fault = (String, String);

/// What an agent's tools may lean on.
pub struct Around<'a> {
    /// The MCP servers by name.
    pub servers: &'a Ordered<Arc<McpServer>>,
    /// The workers for Python functions.
    pub python: &'a Arc<Python>,
    /// The door for HTTP tools.
    pub egress: &'a Egress,
    /// The description of the agent with this name (perhaps empty); `None` when there is no such agent.
    pub agent: &'a dyn Fn(&str) -> Option<String>,
}

impl Tools {
    /// The tools that these documents name. `Err` has every fault. Servers that are down are no fault.
    pub fn build(docs: &[ToolDoc], around: &Around<'_>) -> Result<Tools, Vec<Fault>> {
        let mut sources = Vec::with_capacity(docs.len());
        let mut faults = Vec::new();
        let mut names = HashSet::new();
        for (i, doc) in docs.iter().enumerate() {
            let mut wrong: Vec<Fault> = foreign(doc);
            if let Some(name) = chosen_name(doc) {
                let key = if doc.name.is_some() { "name" } else { "mcp_method" };
                if !is_name(name) {
                    wrong.push((key.into(), name_rule(name)));
                } else if !names.insert(name) {
                    wrong.push((key.into(), format!("another tool of this agent is called `{name}` already")));
                }
            }
            match source(doc, around) {
                Ok(source) if wrong.is_empty() => sources.push(source),
                Ok(_) => {}
                Err(more) => wrong.extend(more),
            }
            faults.extend(wrong.into_iter().map(|(key, message)| (join(i, &key), message)));
        }
        if faults.is_empty() { Ok(Tools { sources, last: Default::default() }) } else { Err(faults) }
    }
}

fn join(i: usize, key: &str) -> String {
    if key.is_empty() { format!("tools[{i}]") } else { format!("tools[{i}].{key}") }
}

fn name_rule(name: &str) -> String {
    format!("`{name}` is not a tool's name: up to 64 letters, digits, `_` and `-`")
}

/// The one name of the tool, unless the document stands for many.
fn chosen_name(doc: &ToolDoc) -> Option<&str> {
    doc.name.as_deref().or(match doc.provider {
        ToolProvider::Mcp => doc.mcp_method.as_deref(),
        _ => None,
    })
}

/// Keys that belong to another provider.
fn foreign(doc: &ToolDoc) -> Vec<Fault> {
    use ToolProvider::{Agent, Http, Mcp, Python};
    let provider = match doc.provider {
        Mcp => "mcp",
        Http => "http",
        Python => "python",
        Agent => "agent",
    };
    [
        ("mcp_server", doc.mcp_server.is_some(), Mcp),
        ("mcp_method", doc.mcp_method.is_some(), Mcp),
        ("include", doc.include.is_some(), Mcp),
        ("exclude", doc.exclude.is_some(), Mcp),
        ("prefix", doc.prefix.is_some(), Mcp),
        ("method", doc.method.is_some(), Http),
        ("url", doc.url.is_some(), Http),
        ("headers", !doc.headers.is_empty(), Http),
        ("body", doc.body.is_some(), Http),
        ("result", doc.result.is_some(), Http),
        ("parameters", doc.parameters.is_some() && doc.provider != Python, Http),
        ("function", doc.function.is_some(), Python),
        ("agent", doc.agent.is_some(), Agent),
    ]
    .into_iter()
    .filter(|(_, set, owner)| *set && *owner != doc.provider)
    .map(|(key, ..)| (key.to_owned(), format!("`{key}` means nothing to the provider {provider}")))
    .collect()
}

fn source(doc: &ToolDoc, around: &Around<'_>) -> Result<Source, Vec<Fault>> {
    match doc.provider {
        ToolProvider::Mcp => mcp(doc, around),
        ToolProvider::Http => http(doc, around),
        ToolProvider::Agent => agent(doc, around),
        ToolProvider::Python => python(doc, around),
    }
}

fn one_fault(key: &str, message: impl Into<String>) -> Vec<Fault> {
    vec![(key.to_owned(), message.into())]
}

/// The name that every tool needs whose provider brings none.
fn need_name(doc: &ToolDoc) -> Result<&str, Vec<Fault>> {
    doc.name.as_deref().ok_or_else(|| one_fault("name", "this tool needs a `name`"))
}

fn mcp(doc: &ToolDoc, around: &Around<'_>) -> Result<Source, Vec<Fault>> {
    let wanted = doc.mcp_server.as_deref().ok_or_else(|| one_fault("mcp_server", "which MCP server has the tool?"))?;
    let server = around.servers.get(wanted).ok_or_else(|| {
        let names = around.servers.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let known = if names.is_empty() { "`mcp_servers` is empty".to_owned() } else { format!("there are {names}") };
        one_fault("mcp_server", format!("there is no MCP server `{wanted}`: {known}"))
    })?;
    let method = doc.mcp_method.as_deref().or(doc.name.as_deref());
    let Some(method) = method else {
        if doc.description.is_some() {
            return Err(one_fault("description", "many tools cannot share a description: give the tool a `name`"));
        }
        return Ok(Source::Many { server: server.clone(), pick: pick(doc)? });
    };
    for (key, set) in [("include", doc.include.is_some()), ("exclude", doc.exclude.is_some()), ("prefix", doc.prefix.is_some())] {
        if set {
            return Err(one_fault(key, format!("`{key}` is for many tools: leave out `name` and `mcp_method`")));
        }
    }
    Ok(Source::One {
        server: server.clone(),
        method: method.to_owned(),
        name: chosen_name(doc).unwrap_or(method).to_owned(),
        description: doc.description.clone(),
    })
}

fn pick(doc: &ToolDoc) -> Result<Pick, Vec<Fault>> {
    let prefix = doc.prefix.clone().unwrap_or_default();
    if !prefix.is_empty() && !is_name(&prefix) {
        return Err(one_fault("prefix", name_rule(&prefix)));
    }
    let include = doc.include.as_deref().map(|patterns| globs("include", patterns)).transpose()?;
    let exclude = globs("exclude", doc.exclude.as_deref().unwrap_or_default())?;
    Ok(Pick { include, exclude, prefix, patterns: doc.include.clone().unwrap_or_default() })
}

fn globs(key: &str, patterns: &[String]) -> Result<GlobSet, Vec<Fault>> {
    let mut set = GlobSetBuilder::new();
    let mut faults = Vec::new();
    for (i, pattern) in patterns.iter().enumerate() {
        match Glob::new(pattern) {
            Ok(glob) => {
                set.add(glob);
            }
            Err(e) => faults.push((format!("{key}[{i}]"), format!("`{pattern}` is not a pattern: {}", e.kind()))),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    set.build().map_err(|e| one_fault(key, e.to_string()))
}

fn http(doc: &ToolDoc, around: &Around<'_>) -> Result<Source, Vec<Fault>> {
    let mut faults = Vec::new();
    let name = need_name(doc).map_err(|e| faults.extend(e)).unwrap_or_default();
    let tool = HttpTool::new(doc, around.egress).map_err(|e| faults.extend(e)).ok();
    let parameters = doc.parameters.clone().or_else(|| tool.as_ref().map(HttpTool::default_parameters));
    let schema = Schema::compile(parameters.as_ref().unwrap_or(&Value::Object(Default::default())));
    let schema = schema.map_err(|e| faults.push(("parameters".into(), format!("not a usable JSON Schema: {e}")))).ok();
    match (tool, parameters, schema) {
        (Some(tool), Some(parameters), Some(schema)) if faults.is_empty() => {
            let kind = Kind::Http(Arc::new(tool));
            let words = doc.description.as_deref().unwrap_or_default();
            Ok(Source::Fixed(Arc::new(Tool::new(name, words, &parameters, Arc::new(schema), kind))))
        }
        _ => Err(faults),
    }
}

fn agent(doc: &ToolDoc, around: &Around<'_>) -> Result<Source, Vec<Fault>> {
    let name = need_name(doc)?;
    let target = doc.agent.as_deref().ok_or_else(|| one_fault("agent", "which agent is the tool?"))?;
    let about = (around.agent)(target).ok_or_else(|| one_fault("agent", format!("there is no agent `{target}`")))?;
    let words = doc.description.clone().filter(|words| !words.is_empty()).unwrap_or(about);
    let words = if words.is_empty() { format!("Asks the agent {target}.") } else { words };
    let parameters = json!({
        "type": "object",
        "properties": { "input": { "type": "string", "description": "What the agent shall do, with all that it must know." } },
        "required": ["input"],
        "additionalProperties": false,
    });
    let schema = Schema::compile(&parameters).map_err(|e| one_fault("", e))?;
    Ok(Source::Fixed(Arc::new(Tool::new(name, &words, &parameters, Arc::new(schema), Kind::Agent(target.to_owned())))))
}

fn python(doc: &ToolDoc, around: &Around<'_>) -> Result<Source, Vec<Fault>> {
    let name = need_name(doc)?;
    let function = doc.function.as_deref().ok_or_else(|| one_fault("function", "which function is the tool? (`module:function`)"))?;
    let schema = doc.parameters.as_ref().map(|parameters| Ok((parameters.clone(), Arc::new(Schema::compile(parameters)?)))).transpose();
    let parameters = schema.map_err(|e: String| one_fault("parameters", format!("not a usable JSON Schema: {e}")))?;
    let (name, function, description) = (name.to_owned(), function.to_owned(), doc.description.clone());
    Ok(Source::Python { python: around.python.clone(), function, name, description, parameters })
}
