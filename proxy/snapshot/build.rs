//! From documents to a snapshot: resolves every name, compiles every script, and says of each fault where it stands.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::runtime::Handle;

use super::{Snapshot, Watched, code};
use crate::access::Access;
use crate::agent::surroundings::Surroundings;
use crate::agent::{Agent, Definition, Directory};
use crate::chat::Object;
use crate::config::document::{Alias, History, McpTransport, Ordered, SessionDoc};
use crate::config::{AgentEntry, AgentKind, ClientTools, Fault, HookEntry, Loaded, Origin, Policies, validate};
use crate::hooks::Hooks;
use crate::limits::Prices;
use crate::python::Python;
use crate::route::Routes;
use crate::sessions::Sessions;
use crate::tools::Tools;
use crate::tools::build::Around;
use crate::tools::egress::Egress;
use crate::tools::mcp::{self, McpServer};
use crate::upstream::Upstream;
use crate::upstream::fallback::Candidate;

/// The name by which a configuration calls this very program, wherever it is installed.
const OURSELVES: &str = "moongate";

/// How long an alias may take: as for plain traffic, the upstream's own timeouts are what ends it.
const ALIAS_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Where this program is. Asked once: after an upgrade in place the system would name a file that is gone.
static OUR_PATH: LazyLock<Option<String>> = LazyLock::new(|| Some(std::env::current_exe().ok()?.to_string_lossy().into_owned()));

pub(super) fn build(loaded: &Loaded, old: Option<&Snapshot>, control: &Handle) -> Result<Snapshot, Vec<Fault>> {
    let (wrong, warnings) = validate(loaded);
    // Building on names that do not exist would only report the same fault twice.
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut faults = Vec::new();
    let upstreams = upstreams(loaded, old, control, &mut faults);
    let mcp_servers = mcp_servers(loaded, old);
    for (name, server) in &loaded.document.mcp_servers {
        // The rest of what is not offered degrades the server, with a warning.
        let wrong = mcp::check(server).into_iter().filter(|(key, _)| key.starts_with("headers."));
        faults.extend(wrong.map(|(key, message)| loaded.origin.fault(&format!("mcp_servers.{name}.{key}"), message)));
    }
    let access = Access::build(&loaded.document.auth);
    let access = access.unwrap_or_else(|(key, message)| {
        faults.push(loaded.origin.fault(&key, message));
        Access::default()
    });
    let egress = Egress::new(&loaded.document.egress);
    let egress = match egress {
        Ok(egress) => egress,
        Err(wrong) => {
            faults.extend(wrong.into_iter().map(|(key, message)| loaded.origin.fault(&key, message)));
            return Err(faults);
        }
    };
    let python = Python::new(code::plan(loaded), old.map(|old| &old.python), control);
    let around = Around { servers: &mcp_servers, python: &python, egress: &egress, agent: &|name| describe(loaded, name) };
    let mut agents = Directory::new();
    for entry in &loaded.agents {
        match agent(entry, loaded, &upstreams, &around) {
            Ok(agent) => {
                agents.insert(entry.name.clone(), Arc::new(agent));
            }
            Err(wrong) => faults.extend(wrong),
        }
    }
    let mut runs = HashMap::new();
    for (name, alias) in loaded.document.models.iter().filter(|(_, alias)| !alias.hooks.is_empty() || !alias.fallback.is_empty()) {
        match run_of_alias(name, alias, loaded, &upstreams) {
            Ok(agent) => _ = runs.insert(name.clone(), Arc::new(agent)),
            Err(wrong) => faults.extend(wrong),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let document = loaded.document.clone();
    let sessions = Sessions::build(&document, old.map(|old| &*old.around.sessions), control);
    let sessions = sessions.map_err(|message| vec![loaded.origin.fault("redis.url", message)])?;
    let prices = Prices::build(&document.prices);
    let prices = prices.map_err(|(model, message)| vec![loaded.origin.fault(&format!("prices.{model}"), message)])?;
    let agents = Arc::new(agents);
    let aliases = document.models.clone();
    let routes = Arc::new(Routes::new(agents.clone(), aliases, runs, upstreams.clone(), document.server.unknown_models));
    let store = old.map(|old| old.around.store.clone()).unwrap_or_default();
    let around = Arc::new(Surroundings {
        agents: agents.clone(),
        models: routes.clone(),
        mcp_servers: mcp_servers.clone(),
        python: python.clone(),
        egress,
        store,
        sessions: Arc::new(sessions),
        prices: Arc::new(prices),
        stand_in: None,
    });
    let watched = watched(loaded);
    Ok(Snapshot { document, access, routes, agents, around, upstreams, mcp_servers, python, warnings, watched })
}

/// The upstreams, the default one first; those that did not change are the old ones.
fn upstreams(loaded: &Loaded, old: Option<&Snapshot>, control: &Handle, faults: &mut Vec<Fault>) -> Vec<Arc<Upstream>> {
    let mut upstreams = Vec::new();
    for (name, settings) in &loaded.document.upstreams {
        let kept = old.and_then(|old| old.upstreams.iter().find(|upstream| upstream.name == *name && upstream.is_same(settings)));
        let upstream = match kept {
            Some(upstream) => Ok(upstream.clone()),
            None => Upstream::build(name, settings.clone(), &loaded.root, control).map(Arc::new),
        };
        match upstream {
            Ok(upstream) => upstreams.push(upstream),
            Err((key, message)) => faults.push(loaded.origin.fault(&format!("upstreams.{name}.{key}"), message)),
        }
    }
    let default = loaded.document.default_upstream.as_ref();
    if let Some(position) = default.and_then(|default| upstreams.iter().position(|upstream| upstream.name == *default)) {
        upstreams[..=position].rotate_right(1);
    }
    upstreams
}

/// The MCP servers; those that did not change keep their connection.
fn mcp_servers(loaded: &Loaded, old: Option<&Snapshot>) -> Ordered<Arc<McpServer>> {
    let servers = loaded.document.mcp_servers.iter().map(|(name, document)| {
        let mut document = document.clone();
        if document.transport == McpTransport::Stdio && document.command.as_deref() == Some(OURSELVES) {
            document.command.clone_from(&OUR_PATH);
        }
        let kept = old.and_then(|old| old.mcp_servers.get(name)).filter(|server| server.serves(name, &document, &loaded.root));
        (name.clone(), kept.cloned().unwrap_or_else(|| McpServer::new(name, &document, &loaded.root)))
    });
    servers.collect()
}

fn agent(entry: &AgentEntry, loaded: &Loaded, upstreams: &[Arc<Upstream>], around: &Around<'_>) -> Result<Agent, Vec<Fault>> {
    let doc = &entry.doc;
    let mut faults = Vec::new();
    let tools = Tools::build(&doc.tools, around);
    let tools = tools.map_err(|wrong| faults.extend(wrong.into_iter().map(|(key, message)| entry.origin.fault(&key, message))));
    let hooks = hooks(&doc.hooks, loaded, &entry.origin, "hooks").map_err(|wrong| faults.extend(wrong));
    let upstream = upstream(doc.upstream.as_deref(), upstreams);
    if upstream.is_none() {
        faults.push(entry.origin.fault("upstream", "there is no upstream for its model".to_owned()));
    }
    match (tools, hooks, upstream) {
        (Ok(tools), Ok(hooks), Some(upstream)) => Ok(Agent {
            name: entry.name.clone(),
            definition: match doc.kind {
                AgentKind::Declarative => Definition::Declarative,
                AgentKind::Sdk => Definition::Sdk,
            },
            python: (doc.kind == AgentKind::Sdk).then(|| around.python.clone()),
            description: doc.description.clone(),
            upstream: upstream.clone(),
            model: doc.model.clone().unwrap_or_default(),
            fallback: Arc::default(),
            instructions: doc.instructions.clone().filter(|text| !text.trim().is_empty()),
            parameters: doc.parameters.clone(),
            hooks: Arc::new(hooks),
            scripts: scripts(&doc.hooks),
            tools,
            policies: doc.policies.clone(),
            client_tools: doc.client_tools,
            progress: doc.progress,
            allow: doc.allow.clone(),
            session: doc.session.clone(),
            limits: Arc::new(doc.limits.clone()),
        }),
        _ => Err(faults),
    }
}

/// The description of the agent with this name, perhaps empty.
fn describe(loaded: &Loaded, name: &str) -> Option<String> {
    let found = loaded.agents.iter().find(|agent| agent.name == name)?;
    Some(found.doc.description.clone().unwrap_or_default())
}

/// An alias with hooks or a fallback: an agent of one model call, without tools of its own, that takes as long as its model does.
fn run_of_alias(name: &str, alias: &Alias, loaded: &Loaded, upstreams: &[Arc<Upstream>]) -> Result<Agent, Vec<Fault>> {
    let origin = &loaded.origin;
    let hooks = hooks(&alias.hooks, loaded, origin, &format!("models.{name}.hooks"))?;
    let upstream = upstream(alias.upstream.as_deref(), upstreams)
        .ok_or_else(|| vec![origin.fault(&format!("models.{name}"), "there is no upstream for its model")])?;
    Ok(Agent {
        name: name.to_owned(),
        definition: Definition::Alias,
        python: None,
        description: None,
        upstream: upstream.clone(),
        model: alias.model.clone(),
        fallback: alias.fallback.iter().filter_map(|name| candidate(name, upstreams)).collect(),
        instructions: None,
        parameters: Object::new(),
        hooks: Arc::new(hooks),
        scripts: scripts(&alias.hooks),
        tools: Tools::none(),
        policies: Policies { timeout: ALIAS_TIMEOUT, ..Policies::default() },
        client_tools: Some(ClientTools::Offer),
        progress: None,
        allow: alias.allow.clone(),
        session: SessionDoc { history: History::None, ..SessionDoc::default() },
        limits: Arc::default(),
    })
}

/// The compiled scripts; a fault of an entry stands where `key` is written, a script's own in the script.
fn hooks(entries: &[HookEntry], loaded: &Loaded, origin: &Origin, key: &str) -> Result<Hooks, Vec<Fault>> {
    let located = |fault: Fault| match fault.place {
        Some(_) => fault,
        None => origin.fault(&format!("{key}{}", fault.key), fault.message),
    };
    Hooks::load(entries, &loaded.root).map_err(|wrong| wrong.into_iter().map(located).collect())
}

fn upstream<'a>(name: Option<&str>, upstreams: &'a [Arc<Upstream>]) -> Option<&'a Arc<Upstream>> {
    match name {
        Some(name) => upstreams.iter().find(|upstream| upstream.name == name),
        None => upstreams.first(),
    }
}

/// The model called `upstream/model`, of an upstream that is there: the document was checked.
fn candidate(name: &str, upstreams: &[Arc<Upstream>]) -> Option<Candidate> {
    let (name, model) = name.split_once('/')?;
    Some(Candidate { upstream: upstream(Some(name), upstreams)?.clone(), model: model.to_owned() })
}

fn scripts(entries: &[HookEntry]) -> Vec<String> {
    entries.iter().map(|hook| hook.script().to_owned()).collect()
}

/// Which folders to watch: a file is replaced by most editors, so its folder tells more than it does.
fn watched(loaded: &Loaded) -> Watched {
    let scripts = loaded.agents.iter().flat_map(|entry| &entry.doc.hooks);
    let scripts = scripts.chain(loaded.document.models.values().flat_map(|alias| &alias.hooks));
    let scripts = scripts.map(|hook| loaded.root.join(hook.script()));
    let files = loaded.files.iter().cloned().chain(scripts);
    let mut folders: Vec<PathBuf> = files.filter_map(|file| file.parent().map(Path::to_owned)).collect();
    folders.sort();
    folders.dedup();
    let mut trees: Vec<PathBuf> = loaded.agents_dir.iter().cloned().collect();
    for place in code::packages(loaded) {
        match place.is_dir() {
            true => trees.push(place),
            false => folders.extend(place.parent().map(Path::to_owned)),
        }
    }
    Watched { folders, trees }
}
