//! Which of the configured and listed tools an agent is offered, and under which names.

use std::collections::HashSet;
use std::sync::Arc;

use globset::GlobSet;
use serde_json::Value;

use super::mcp::{Catalog, Listed, McpServer};
use super::schema::Schema;
use super::{Kind, Tool};
use crate::python::Python;
use crate::python::modules::Modules;

/// The longest name that model servers take.
const MAX_NAME: usize = 64;

/// One entry of an agent's `tools`.
pub(super) enum Source {
    /// A tool that is there whatever happens.
    Fixed(Arc<Tool>),
    /// One tool of an MCP server, under a name of its own.
    One { server: Arc<McpServer>, method: String, name: String, description: Option<String> },
    /// Many tools of an MCP server.
    Many { server: Arc<McpServer>, pick: Pick },
    /// A Python function, with what the operator says in the place of its docstring and type hints.
    Python { python: Arc<Python>, function: String, name: String, description: Option<String>, parameters: Option<(Value, Arc<Schema>)> },
}

/// What stands behind a source at a moment.
pub(super) enum Listing {
    /// Nothing that changes, or nothing that is up.
    None,
    /// An MCP server's list.
    Server(Arc<Catalog>),
    /// What Python workers imported.
    Code(Arc<Modules>),
}

impl Listing {
    /// Whether nothing has changed.
    pub(super) fn is(&self, other: &Listing) -> bool {
        match (self, other) {
            (Listing::None, Listing::None) => true,
            (Listing::Server(a), Listing::Server(b)) => Arc::ptr_eq(a, b),
            (Listing::Code(a), Listing::Code(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Which of a server's tools.
pub(super) struct Pick {
    /// `None` takes all.
    pub(super) include: Option<GlobSet>,
    pub(super) exclude: GlobSet,
    pub(super) prefix: String,
    /// The patterns of `include` as written, for messages.
    pub(super) patterns: Vec<String>,
}

impl Pick {
    fn takes(&self, tool: &Listed) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(&tool.name)) && !self.exclude.is_match(&tool.name)
    }
}

impl Source {
    /// What stands behind it, when that is up.
    pub(super) fn listing(&self) -> Listing {
        match self {
            Source::One { server, .. } | Source::Many { server, .. } => server.catalog().map_or(Listing::None, Listing::Server),
            Source::Python { python, .. } => python.modules().map_or(Listing::None, Listing::Code),
            Source::Fixed(_) => Listing::None,
        }
    }

    /// Whether its tools have names of the operator's choosing, which win over those that a server chose.
    fn named(&self) -> bool {
        !matches!(self, Source::Many { .. })
    }

    /// Why its tools are missing now.
    pub(super) fn degraded(&self) -> Option<String> {
        match self {
            Source::Fixed(_) => None,
            Source::Python { python, function, name, .. } => {
                python.fault_of_function(function).map(|why| format!("the tool `{name}` (`{function}`): {why}"))
            }
            Source::One { server, method, .. } => match server.catalog() {
                Err(why) => Some(why),
                Ok(catalog) if catalog.find(method).is_none() => Some(absent(server, method, &catalog)),
                Ok(_) => None,
            },
            Source::Many { server, pick } => match server.catalog() {
                Err(why) => Some(why),
                Ok(catalog) if !catalog.tools().iter().any(|tool| pick.takes(tool)) && pick.include.is_some() => {
                    Some(absent(server, &pick.patterns.join("`, `"), &catalog))
                }
                Ok(_) => None,
            },
        }
    }
}

fn absent(server: &McpServer, wanted: &str, catalog: &Catalog) -> String {
    format!("MCP server `{}` has no tool `{wanted}`; it has: {}", server.name(), catalog.names())
}

/// The tools of all sources that are up. `listings` stand behind the sources, in their order. A name that
/// stands twice goes to the operator's choice first, then to the earlier source.
pub(super) fn tools(sources: &[Source], listings: &[Listing]) -> Vec<Arc<Tool>> {
    let mut taken: HashSet<String> = HashSet::new();
    let mut found: Vec<(usize, Arc<Tool>)> = Vec::new();
    for named in [true, false] {
        for (i, (source, listing)) in sources.iter().zip(listings).enumerate() {
            if source.named() != named {
                continue;
            }
            for tool in expand(source, listing) {
                if taken.insert(tool.name.clone()) {
                    found.push((i, tool));
                } else {
                    tracing::warn!(tool = tool.name, "two tools of an agent have this name: the later one is left out");
                }
            }
        }
    }
    found.sort_by_key(|(i, _)| *i);
    found.into_iter().map(|(_, tool)| tool).collect()
}

fn expand(source: &Source, listing: &Listing) -> Vec<Arc<Tool>> {
    match (source, listing) {
        (Source::Fixed(tool), _) => vec![tool.clone()],
        (Source::One { server, method, name, description }, Listing::Server(catalog)) => {
            let listed = catalog.find(method);
            listed.map(|listed| Arc::new(offered(server, listed, name, description.as_deref()))).into_iter().collect()
        }
        (Source::Many { server, pick }, Listing::Server(catalog)) => {
            let listed = catalog.tools().iter().filter(|listed| pick.takes(listed));
            listed.map(|listed| Arc::new(offered(server, listed, &fit(&pick.prefix, &listed.name), None))).collect()
        }
        (Source::Python { python, function, name, description, parameters }, Listing::Code(modules)) => {
            let Ok(signature) = modules.signature(function) else { return Vec::new() };
            let words = description.as_deref().or(signature.description.as_deref()).unwrap_or_default();
            let (parameters, schema) = match parameters {
                Some((parameters, schema)) => (parameters, schema.clone()),
                // The SDK makes valid schemas; with one that is not, Python checks the arguments alone.
                None => (&signature.parameters, Arc::new(Schema::compile(&signature.parameters).unwrap_or_else(|_| Schema::any()))),
            };
            let kind = Kind::Python { python: python.clone(), function: function.clone() };
            vec![Arc::new(Tool::new(name, words, parameters, schema, kind))]
        }
        _ => Vec::new(),
    }
}

fn offered(server: &Arc<McpServer>, listed: &Listed, name: &str, description: Option<&str>) -> Tool {
    let kind = Kind::Mcp { server: server.clone(), method: listed.name.clone() };
    Tool::new(name, description.unwrap_or(&listed.description), &listed.parameters, listed.schema.clone(), kind)
}

/// Whether model servers take this name.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
}

/// A server's name for a tool as model servers take it: `admin.list` becomes `admin_list`.
fn fit(prefix: &str, name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    prefix.chars().chain(name.chars()).map(|c| if fits(c) { c } else { '_' }).take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_names_are_made_to_fit() {
        assert_eq!(fit("", "read_file"), "read_file");
        assert_eq!(fit("files_", "read/file.v2"), "files_read_file_v2");
        assert_eq!(fit("", &"x".repeat(100)).len(), MAX_NAME);
        assert!(is_name("get-weather_2") && !is_name("") && !is_name("a b") && !is_name(&"x".repeat(65)));
    }
}
