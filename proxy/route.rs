//! Which agent or upstream a model's name means: the only matching code.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::access::Caller;
use crate::agent::{Agent, Directory};
use crate::config::document::{Alias, Ordered, UnknownModels};
use crate::error::{Error, Kind, Result};
use crate::upstream::{Upstream, catalog};

/// Where a request goes.
#[derive(Clone)]
pub enum Target {
    /// An agent works on it here.
    Agent(Arc<Agent>),
    /// It is passed to this upstream.
    Upstream(Arc<Upstream>),
}

/// A target and the name that the model has there, when it differs from the one in the request.
pub struct Route {
    /// Where the request goes.
    pub target: Target,
    /// What `model` is replaced by on the way.
    pub rename: Option<String>,
}

/// The names of a snapshot.
pub struct Routes {
    agents: Arc<Directory>,
    aliases: Ordered<Alias>,
    /// The default upstream first, then the order of the configuration.
    upstreams: Vec<Arc<Upstream>>,
    unknown: UnknownModels,
}

impl Routes {
    /// `upstreams` has the default one first.
    pub fn new(agents: Arc<Directory>, aliases: Ordered<Alias>, upstreams: Vec<Arc<Upstream>>, unknown: UnknownModels) -> Routes {
        Routes { agents, aliases, upstreams, unknown }
    }

    /// The upstream for whatever no model decides.
    pub fn default_upstream(&self) -> Result<&Arc<Upstream>> {
        self.upstreams.first().ok_or_else(|| Error::new(Kind::UpstreamUnreachable, "No upstream is configured."))
    }

    /// Where `model` leads this caller: an agent, an alias, `upstream/model`, the upstream that lists it, the default upstream.
    pub fn find(&self, model: &str, caller: &Caller) -> Result<Route> {
        if let Some(agent) = self.agents.get(model) {
            caller.require(model, agent.allow.as_deref())?;
            return Ok(Route { target: Target::Agent(agent.clone()), rename: None });
        }
        if let Some(alias) = self.aliases.get(model) {
            caller.require(model, alias.allow.as_deref())?;
            let upstream = match &alias.upstream {
                Some(name) => self.upstream(name).ok_or_else(|| unknown_model(model))?,
                None => self.default_upstream()?,
            };
            return Ok(Route { target: Target::Upstream(upstream.clone()), rename: Some(alias.model.clone()) });
        }
        caller.require(model, None)?;
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

    fn upstream(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams.iter().find(|upstream| upstream.name == name)
    }
}

/// 404 as OpenAI words it.
pub fn unknown_model(model: &str) -> Error {
    Error::new(Kind::ModelNotFound, format!("The model '{model}' does not exist.")).param("model")
}
