---@meta
error "a meta file describes; it is never required"

--- What a script returns: its hooks, and the defaults of its settings. Nothing else may stand in it.
---@class Script
---@field config? table<string, any> The settings' defaults; the hook's entry in the gateway's configuration overrides them, key by key.
---@field on_request? fun(head: Head, run: Run): Verdict? Once, the key checked, before the messages of a client's request are decoded.
---@field pre_prompt? fun(prompt: Prompt, run: Run): Verdict? Before each model call. Changes hold for this call only.
---@field on_chunk? fun(chunk: Chunk, run: Run): Verdict? For each piece of the reply's text, streamed or not; not for reasoning.
---@field on_tool_call? fun(call: ToolCall, run: Run): Verdict? Before each tool call that the gateway executes.
---@field on_tool_result? fun(result: ToolResult, run: Run): Verdict? After each such call.
---@field post_response? fun(reply: Reply, run: Run): Verdict? Once, with the final reply.
---@field on_error? fun(failure: Failure, run: Run): Verdict? Once, when the run failed: not after a verdict, nor when the client left.

--- What a hook decided. It has no effect unless it is returned.
---@class Verdict
---@field kind "answer"|"reject"|"abort"
---@field value any
---@field status? integer

--- The run that a hook is part of. Read-only, but for `state`.
---@class Run
---@field id string
---@field agent string The agent's name.
---@field model string The model that the client asked for.
---@field hop integer Which model call of the run this is, from 1.
---@field config table<string, any> The script's settings.
---@field headers table<string, string> The client's headers, names in lower case, credentials left out.
---@field key? string The id of the client's key.
---@field user? string Whom the client says it asks for: the request's `user`, or `safety_identifier`. Nil in `on_request`.
---@field session? string The conversation: `x-session-id`, Open WebUI's chat id, or the request's `metadata.session_id`.
---@field usage Usage Tokens of the run so far.
---@field state table Shared by all hooks of this run, gone with it.
---@field log std.log
local Run = {}

--- Ends the matter with `value`: the reply (`pre_prompt`, `post_response`, `on_error`: text or a message) or the tool's result
--- (`on_tool_call`). Means nothing in the other hooks.
---@param value any
---@return Verdict
function Run:answer(value) end

--- Says no: the client gets 403 (`on_request`, `pre_prompt`, `post_response`), or the model reads `message` as the tool's error
--- (`on_tool_call`, `on_tool_result`). Means nothing in the other hooks.
---@param message string
---@return Verdict
function Run:reject(message) end

--- Ends the run with an error of this status, 400 to 599. Any hook may.
---@param status integer
---@param message string
---@return Verdict
function Run:abort(status, message) end

--- The head of a client's request.
---@class Head
---@field method string Cannot be changed.
---@field path string With its query; cannot be changed.
---@field model string The model that the client asked for; cannot be changed.
---@field headers table<string, string> Names in lower case, credentials left out. What they become, `run.headers` shows to later hooks.

--- What goes to the model. All other fields of the request (`temperature`, `tool_choice`, ...) are here under their own names.
---@class Prompt
---@field model string The model's name at the upstream.
---@field messages Message[]
---@field tools table[] In OpenAI's form.
---@field temperature? number
---@field [string] any

---@class Message
---@field role string
---@field content? string|table[] A null reads as nil.
---@field tool_calls? table[]
---@field [string] any

--- A piece of the reply's text.
---@class Chunk
---@field text string Changed to "", the piece does not leave.
---@field choice integer Which of the choices, from 0; above it only for an alias asked with `n`. Cannot be changed.
---@field last boolean No more text of this model call follows: the moment for what was kept back. The text is "". Cannot be changed.

--- The model asks for a tool.
---@class ToolCall
---@field name string Cannot be changed.
---@field arguments table<string, any> Fit the tool's schema; checked again if they are changed.

--- What a tool returned.
---@class ToolResult
---@field name string Cannot be changed.
---@field arguments table<string, any> What it was called with; cannot be changed.
---@field content string What the model will read.
---@field is_error boolean The tool failed, and the content says why; cannot be changed.

--- The final reply.
---@class Reply
---@field content string
---@field usage Usage Tokens of the whole run; cannot be changed.
---@field choice integer Which of the choices, from 0; above it only for an alias asked with `n`. Cannot be changed.
---@field finish string Why the model ended: `stop`, `length` (it was cut off), `content_filter`, `tool_calls` (the client is to call tools). Cannot be changed.
---@field streamed boolean The text has left already: changing it has no effect. Cannot be changed.

--- Why the run failed. Nothing of it can be changed.
---@class Failure
---@field code string What the client would read: `upstream_timeout`, `hook_error`, `run_timeout`, ...
---@field message string The sentence that the client would read.
---@field status integer The HTTP status that the client would get.
---@field streamed boolean Text has left already: an answer follows it.

---@class Usage
---@field prompt_tokens integer
---@field completion_tokens integer
---@field total_tokens integer
