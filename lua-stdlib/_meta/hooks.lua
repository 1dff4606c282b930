---@meta
error "a meta file describes; it is never required"

--- What a script returns: its hooks, and the defaults of its settings. Nothing else may stand in it.
---@class Script
---@field config? table<string, any> The settings' defaults; the hook's entry in the gateway's configuration overrides them, key by key.
---@field pre_prompt? fun(prompt: Prompt, run: Run): Verdict? since 0.1; before each model call. Changes hold for this call only.
---@field on_tool_call? fun(call: ToolCall, run: Run): Verdict? since 0.1; before each tool call that the gateway executes.
---@field post_response? fun(reply: Reply, run: Run): Verdict? since 0.1; once, with the final reply.

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
---@field user? string
---@field session? string
---@field usage Usage Tokens of the run so far.
---@field state table Shared by all hooks of this run, gone with it.
---@field log std.log
local Run = {}

--- Ends the matter with `value`: the reply (`pre_prompt`, `post_response`: text or a message) or the tool's result (`on_tool_call`).
---@param value any
---@return Verdict
function Run:answer(value) end

--- Says no: the client gets 403, or the model reads `message` as the tool's error (`on_tool_call`).
---@param message string
---@return Verdict
function Run:reject(message) end

--- Ends the run with an error of this status, 400 to 599.
---@param status integer
---@param message string
---@return Verdict
function Run:abort(status, message) end

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

--- The model asks for a tool.
---@class ToolCall
---@field name string Cannot be changed.
---@field arguments table<string, any> Fit the tool's schema; checked again if they are changed.

--- The final reply.
---@class Reply
---@field content string
---@field usage Usage Tokens of the whole run; cannot be changed.
---@field streamed boolean The text has left already: changing it has no effect.

---@class Usage
---@field prompt_tokens integer
---@field completion_tokens integer
---@field total_tokens integer
