//! Which agent or upstream a model's name means: the only matching code.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::access::Caller;
use crate::agent::surroundings::{Models, Route, Target};
use crate::agent::{Agent, Directory};
use crate::config::document::{Alias, Ordered, UnknownModels};
use crate::error::{Error, Kind, Result};
use crate::upstream::{Upstream, catalog};

/// The names of a snapshot.
pub struct Routes {
    agents: Arc<Directory>,
    aliases: Ordered<Alias>,
    /// The aliases with hooks or a fallback, which are runs.
    runs: HashMap<String, Arc<Agent>>,
    /// The default upstream first, then the order of the configuration.
    upstreams: Vec<Arc<Upstream>>,
    unknown: UnknownModels,
}

impl Routes {
    /// `upstreams` has the default one first.
    pub fn new(
        agents: Arc<Directory>,
        aliases: Ordered<Alias>,
        runs: HashMap<String, Arc<Agent>>,
        upstreams: Vec<Arc<Upstream>>,
        unknown: UnknownModels,
    ) -> Routes {
        Routes { agents, aliases, runs, upstreams, unknown }
    }

    /// The upstream for whatever no model decides.
    pub fn default_upstream(&self) -> Result<&Arc<Upstream>> {
        self.upstreams.first().ok_or_else(|| Error::new(Kind::UpstreamUnreachable, "No upstream is configured."))
    }

    /// What `GET /v1/models` lists for this caller: each id once, agents and aliases first.
    pub fn list(&self, caller: &Caller) -> Vec<Value> {
        let mut seen = HashSet::new();
        let mut listed = Vec::new();
        let mut agents: Vec<_> = self.agents.values().collect();
        agents.sort_by(|a, b| a.name.cmp(&b.name));
        let agents = agents.iter().map(|agent| (&agent.name, &agent.allow));
        let ours = agents.chain(self.aliases.iter().map(|(name, alias)| (name, &alias.allow)));
        for (name, allow) in ours {
            if caller.may_use(name, allow.as_deref()) && seen.insert(name.clone()) {
                listed.push(json!({ "id": name, "object": "model", "created": 0, "owned_by": "moongate" }));
            }
        }
        for upstream in &self.upstreams {
            for model in &upstream.catalog.listing().models {
                let Some(id) = catalog::id(model) else { continue };
                if caller.may_use(id, None) && seen.insert(id.to_owned()) {
                    let mut model = model.clone();
                    model.entry("object").or_insert_with(|| "model".into());
                    model.entry("created").or_insert(0.into());
                    model.entry("owned_by").or_insert_with(|| upstream.name.as_str().into());
                    listed.push(model.into());
                }
            }
        }
        listed
    }

    /// What is kept for other keys is not there for this one, as far as that is the gateway's to say.
    fn require_allowed(&self, model: &str, caller: &Caller, allow: Option<&[String]>) -> Result<()> {
        match self.unknown {
            UnknownModels::Reject if !caller.may_use(model, allow) => Err(unknown_model(model)),
            _ => caller.require(model, allow),
        }
    }

    fn upstream(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams.iter().find(|upstream| upstream.name == name)
    }
}

impl Models for Routes {
    /// In this order: an agent, an alias, `upstream/model`, the upstream that lists it, the default upstream.
    fn find(&self, model: &str, caller: &Caller) -> Result<Route> {
        caller.require(model, None)?;
        if let Some(agent) = self.agents.get(model) {
            self.require_allowed(model, caller, agent.allow.as_deref())?;
            return Ok(Route { target: Target::Agent(agent.clone()), rename: None });
        }
        if let Some(alias) = self.aliases.get(model) {
            self.require_allowed(model, caller, alias.allow.as_deref())?;
            if let Some(run) = self.runs.get(model) {
                return Ok(Route { target: Target::Agent(run.clone()), rename: None });
            }
            let upstream = match &alias.upstream {
                Some(name) => self.upstream(name).ok_or_else(|| unknown_model(model))?,
                None => self.default_upstream()?,
            };
            return Ok(Route { target: Target::Upstream(upstream.clone()), rename: Some(alias.model.clone()) });
        }
        let prefixed = model.split_once('/').and_then(|(name, rest)| Some((self.upstream(name)?, rest)));
        if let Some((upstream, rest)) = prefixed {
            return Ok(Route { target: Target::Upstream(upstream.clone()), rename: Some(rest.to_owned()) });
        }
        let upstream = match self.upstreams.iter().find(|upstream| upstream.catalog.has(model)) {
            Some(upstream) => upstream,
            None if self.unknown == UnknownModels::Reject => return Err(unknown_model(model)),
            None => self.default_upstream()?,
        };
        Ok(Route { target: Target::Upstream(upstream.clone()), rename: None })
    }
}

/// 404 as OpenAI words it.
pub fn unknown_model(model: &str) -> Error {
    Error::new(Kind::ModelNotFound, format!("The model '{model}' does not exist.")).param("model")
}
