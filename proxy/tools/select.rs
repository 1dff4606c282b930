//! Which of the configured and listed tools an agent is offered, and under which names.

use std::collections::HashSet;
use std::sync::Arc;

use globset::GlobSet;

use super::mcp::{Catalog, Listed, McpServer};
use super::{Kind, Tool};

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
    /// A tool that this build cannot have; why.
    Missing(String),
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
    /// The list of the server behind it, when there is one and it is up.
    pub(super) fn catalog(&self) -> Option<Arc<Catalog>> {
        match self {
            Source::One { server, .. } | Source::Many { server, .. } => server.catalog().ok(),
            Source::Fixed(_) | Source::Missing(_) => None,
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
            Source::Missing(why) => Some(why.clone()),
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

/// The tools of all sources whose servers are up. `catalogs` are the sources' lists, in their order. A name that
/// stands twice goes to the operator's choice first, then to the earlier source.
pub(super) fn tools(sources: &[Source], catalogs: &[Option<Arc<Catalog>>]) -> Vec<Arc<Tool>> {
    let mut taken: HashSet<String> = HashSet::new();
    let mut found: Vec<(usize, Arc<Tool>)> = Vec::new();
    for named in [true, false] {
        for (i, (source, catalog)) in sources.iter().zip(catalogs).enumerate() {
            if source.named() != named {
                continue;
            }
            for tool in expand(source, catalog.as_deref()) {
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

fn expand(source: &Source, catalog: Option<&Catalog>) -> Vec<Arc<Tool>> {
    match (source, catalog) {
        (Source::Fixed(tool), _) => vec![tool.clone()],
        (Source::One { server, method, name, description }, Some(catalog)) => {
            let listed = catalog.find(method);
            listed.map(|listed| Arc::new(offered(server, listed, name, description.as_deref()))).into_iter().collect()
        }
        (Source::Many { server, pick }, Some(catalog)) => {
            let listed = catalog.tools().iter().filter(|listed| pick.takes(listed));
            listed.map(|listed| Arc::new(offered(server, listed, &fit(&pick.prefix, &listed.name), None))).collect()
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
