//! The tools of an agent: which there are, whether a call's arguments fit, and the call itself.

pub mod build;
pub mod egress;
pub mod fetch;
pub mod http;
pub mod mcp;
pub mod schema;
mod select;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde_json::{Value, json};

use crate::chat::{Object, ToolResult};
use crate::python::Python;

use self::http::HttpTool;
use self::mcp::McpServer;
use self::schema::Schema;
use self::select::{Listing, Source};

/// The tools of one agent as its configuration names them. MCP servers and Python workers come and go behind it.
pub struct Tools {
    sources: Vec<Source>,
    /// The last offer, and what it was made from.
    last: ArcSwapOption<(Vec<Listing>, Offer)>,
}

/// The tools of one run: what `Tools` offered when the run began. Changes reach the next run.
#[derive(Clone, Default)]
pub struct Offer {
    tools: Arc<[Arc<Tool>]>,
}

/// One tool that a model can ask for.
#[derive(Clone)]
pub struct Tool {
    /// The name that the model reads.
    pub name: String,
    /// OpenAI's definition: `{"type": "function", "function": {"name", "description", "parameters"}}`.
    pub definition: Value,
    /// `mcp`, `http`, ...: a label for logs and metrics.
    pub provider: &'static str,
    /// Who runs it.
    pub kind: Kind,
    schema: Arc<Schema>,
}

/// Who runs a tool.
#[derive(Clone)]
pub enum Kind {
    /// An MCP server, under the server's own name for the tool.
    Mcp {
        /// The server.
        server: Arc<McpServer>,
        /// The server's name for the tool.
        method: String,
    },
    /// An HTTP request.
    Http(Arc<HttpTool>),
    /// A Python function, in a worker process.
    Python {
        /// The workers.
        python: Arc<Python>,
        /// `module:function`.
        function: String,
    },
    /// Another agent, by its name. The run that called it drives it: `Tool::call` cannot.
    Agent(String),
    /// Nobody: a test plays it.
    Played,
}

impl Tools {
    /// No tools at all.
    pub fn none() -> Tools {
        Tools { sources: Vec::new(), last: ArcSwapOption::empty() }
    }

    /// What the model may ask for now. Tools of a server that is down are absent.
    pub fn offer(&self) -> Offer {
        let listings: Vec<_> = self.sources.iter().map(Source::listing).collect();
        if let Some(last) = self.last.load().as_deref()
            && last.0.iter().zip(&listings).all(|(then, now)| then.is(now))
        {
            return last.1.clone();
        }
        let offer = Offer { tools: select::tools(&self.sources, &listings).into() };
        self.last.store(Some(Arc::new((listings, offer.clone()))));
        offer
    }

    /// Why a part of the tools is missing now, in words for the operator; empty when all are there.
    pub fn degraded(&self) -> Vec<String> {
        let mut reasons: Vec<String> = Vec::new();
        for reason in self.sources.iter().filter_map(Source::degraded) {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        reasons
    }
}

impl Offer {
    /// The tool with exactly this name.
    pub fn find(&self, name: &str) -> Option<&Arc<Tool>> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    /// OpenAI's definitions, for the prompt.
    pub fn definitions(&self) -> Vec<Value> {
        self.tools.iter().map(|tool| tool.definition.clone()).collect()
    }

    /// The same tools, those called `names` played by a test: with their schema where they have one here, else with any arguments.
    pub fn with_played(&self, names: &[String]) -> Offer {
        let mut tools: Vec<Arc<Tool>> = self.tools.to_vec();
        for name in names {
            match tools.iter_mut().find(|tool| tool.name == *name) {
                Some(tool) => *tool = Arc::new(Tool { kind: Kind::Played, provider: "played", ..(**tool).clone() }),
                None => {
                    let parameters = json!({ "type": "object" });
                    tools.push(Arc::new(Tool::new(name, "", &parameters, Arc::new(Schema::any()), Kind::Played)));
                }
            }
        }
        Offer { tools: tools.into() }
    }

    /// Their names, for messages.
    pub fn names(&self) -> String {
        self.tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// All of them, in the configuration's order.
    pub fn tools(&self) -> &[Arc<Tool>] {
        &self.tools
    }
}

impl Tool {
    fn new(name: &str, description: &str, parameters: &Value, schema: Arc<Schema>, kind: Kind) -> Tool {
        let mut function = Object::new();
        function.insert("name".into(), name.into());
        if !description.is_empty() {
            function.insert("description".into(), description.into());
        }
        function.insert("parameters".into(), parameters.clone());
        Tool {
            name: name.to_owned(),
            definition: json!({ "type": "function", "function": function }),
            provider: match kind {
                Kind::Mcp { .. } => "mcp",
                Kind::Http(_) => "http",
                Kind::Python { .. } => "python",
                Kind::Agent(_) => "agent",
                Kind::Played => "played",
            },
            kind,
            schema,
        }
    }

    /// The arguments as an object that fits the tool's schema. `""` means `{}`.
    /// `Err` is a sentence for the model: what is wrong, and where, so that it can correct itself.
    pub fn parse(&self, arguments: &str) -> Result<Object, String> {
        self.schema.parse(arguments)
    }

    /// Checks arguments that a hook changed.
    pub fn validate(&self, arguments: &Object) -> Result<(), String> {
        self.schema.check(&Value::Object(arguments.clone()))
    }

    /// Calls the tool. Never fails: a failure is a result that the model reads. Dropping the future cancels the call at the server.
    pub async fn call(&self, arguments: Object) -> ToolResult {
        match &self.kind {
            Kind::Mcp { server, method } => server.call(method, arguments).await,
            Kind::Http(tool) => tool.call(&arguments).await,
            Kind::Python { python, function } => match python.call(function, &arguments).await {
                Ok(returned) => ToolResult::ok(returned.content),
                Err(why) => ToolResult::error(why),
            },
            Kind::Agent(name) => ToolResult::error(format!("the agent `{name}` cannot be called from here")),
            Kind::Played => ToolResult::error("nobody plays this tool"),
        }
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
