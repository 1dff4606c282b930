--- The gateway's models, for a script's own questions. Tokens count in the run's usage; this run's hooks do not fire for them.

local native = ...

---@class std.llm
local llm = {}

--- A chat request. All other fields (`temperature`, `max_tokens`, `response_format`, ...) go to the model as they are.
---@class std.llm.Request
---@field model? string As clients name it; default the run's own model.
---@field messages Message[]
---@field [string] any

---@class std.llm.Reply
---@field content string
---@field reasoning? string
---@field tool_calls? table[] In OpenAI's form.
---@field finish? string
---@field usage Usage

--- Asks a model. Returns its reply; nil and a sentence if it failed.
---@param request std.llm.Request
---@return std.llm.Reply? reply
---@return string? why
function llm.chat(request)
  if type(request) ~= "table" or type(request.messages) ~= "table" then
    error("llm.chat: needs a table with `messages`", 2)
  end
  return native.call(request)
end

--- Asks a model one question. Returns the text of its reply; nil and a sentence if it failed.
---@param question string
---@param options? table Other fields of the request: `model`, `temperature`, ...; `system` is the system message.
---@return string? text
---@return string? why
function llm.ask(question, options)
  local request = table.clone(options or {})
  request.messages = { { role = "user", content = question } }
  if request.system then
    table.insert(request.messages, 1, { role = "system", content = request.system })
    request.system = nil
  end
  local reply, why = llm.chat(request)
  if not reply then
    return nil, why
  end
  return reply.content
end

return llm
