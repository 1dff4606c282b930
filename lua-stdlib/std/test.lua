--- Tests of scripts, for `moongate test`. A test is `x_test.lua` beside `x.lua`; nothing of it reaches a model, a tool or the network:
--- what the script under test would reach, the test plays.

local json = require "std.json"

local native = ...

---@class std.test
local test = {}

--- Who plays what, of the case that is running.
local fakes = {}

--- What can be played.
local FAKED = { "http", "mcp", "tools", "python", "llm", "agent" }

--- The failures of whole runs that the case has not looked at yet, by agent.
local unseen = {}

--- Names a case. It runs after the file has been read, with a store, fakes and a clock of its own.
---@param name string
---@param body fun()
function test.case(name, body)
  if type(name) ~= "string" or type(body) ~= "function" then
    error("test.case: needs a name and a function", 2)
  end
  native.case(name, body)
end

local function same(a, b, above)
  if a == b or (a ~= a and b ~= b) then
    return true
  end
  if type(a) ~= "table" or type(b) ~= "table" or above[a] then
    return false
  end
  above[a] = true
  for key, value in pairs(a) do
    if not same(value, b[key], above) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  above[a] = nil
  return true
end

--- Fails unless both are equal, tables by what is in them.
---@param got any
---@param want any
---@param what? string What they are, for the failure.
function test.equal(got, want, what)
  if not same(got, want, {}) then
    error((what or "they differ") .. ":\n" .. native.diff(got, want), 2)
  end
end

--- Fails unless `value` is neither nil nor false.
---@param value any
---@param what? string
function test.ok(value, what)
  if not value then
    error(what or ("it is " .. tostring(value)), 2)
  end
end

--- Fails unless `part`, plain text, stands in `text`.
---@param text string
---@param part string
function test.contains(text, part)
  if type(text) ~= "string" or not text:find(part, 1, true) then
    error(("%s does not contain %s"):format(json.encode(text), json.encode(part)), 2)
  end
end

--- Fails unless `body` raises an error; returns its message. With `part`, plain text, the message must contain it.
---@param body fun()
---@param part? string
---@return string message
function test.raises(body, part)
  local ok, message = pcall(body)
  message = tostring(message)
  if ok then
    error("it raises no error", 2)
  elseif part and not message:find(part, 1, true) then
    error(("the error %s does not contain %s"):format(json.encode(message), json.encode(part)), 2)
  end
  return message
end

--- What a hook's second argument is made of; all of it may be left out.
---@class std.test.Run
---@field config? table<string, any> Over the defaults of the script `x.lua` that `x_test.lua` tests.
---@field headers? table<string, string>
---@field id? string
---@field agent? string
---@field model? string
---@field hop? integer
---@field key? string
---@field user? string
---@field session? string
---@field usage? Usage
---@field state? table

--- The `run` that a hook gets. Its verdicts have `.kind` ("answer", "reject", "abort"), `.value` and, of an abort, `.status`.
---@param fields? std.test.Run
---@return Run
function test.run(fields)
  fields = fields or {}
  local config = {}
  local script = native.subject and native.script(native.subject)
  for name, default in pairs(script and script.config or {}) do
    config[name] = default
  end
  for name, value in pairs(fields.config or {}) do
    if script and config[name] == nil then
      error(("test.run: %s.lua has no `%s` in its `config`"):format(native.subject, name), 2)
    end
    config[name] = value
  end
  local usage = { prompt_tokens = 0, completion_tokens = 0, total_tokens = 0 }
  for name, value in pairs(fields.usage or {}) do
    usage[name] = value
  end
  local view = {
    id = fields.id or "run-1",
    agent = fields.agent or "agent",
    model = fields.model or "agent",
    key = fields.key,
    user = fields.user,
    session = fields.session,
    hop = fields.hop or 1,
    headers = fields.headers or {},
    usage = usage,
  }
  return native.run(view, config, fields.state or {})
end

local function with(defaults, fields)
  for name, value in pairs(fields or {}) do
    defaults[name] = value
  end
  return defaults
end

--- What `on_request` gets.
---@param fields? table
---@return Head
function test.head(fields)
  return with({ method = "POST", path = "/v1/chat/completions", model = "agent", headers = {} }, fields)
end

--- What `pre_prompt` gets: one message of the user's, or a whole prompt.
---@param input? string|table
---@return Prompt
function test.prompt(input)
  if type(input) ~= "table" then
    input = { messages = { { role = "user", content = input or "hello" } } }
  end
  return with({ model = "model", messages = {}, tools = {} }, input)
end

--- What `on_chunk` gets.
---@param text string
---@param fields? table
---@return Chunk
function test.chunk(text, fields)
  return with({ text = text, choice = 0, last = false }, fields)
end

--- What `on_tool_call` gets.
---@param name string
---@param arguments? table<string, any>
---@return ToolCall
function test.call(name, arguments)
  return { name = name, arguments = arguments or {} }
end

--- What `on_tool_result` gets.
---@param name string
---@param content string
---@param fields? table
---@return ToolResult
function test.result(name, content, fields)
  return with({ name = name, arguments = {}, content = content, is_error = false }, fields)
end

--- What `post_response` gets.
---@param content string
---@param fields? table
---@return Reply
function test.reply(content, fields)
  local usage = { prompt_tokens = 0, completion_tokens = 0, total_tokens = 0 }
  return with({ content = content, usage = usage, choice = 0, finish = "stop", streamed = false }, fields)
end

--- What `on_error` gets.
---@param fields? table
---@return Failure
function test.failure(fields)
  return with({ code = "upstream_error", message = "The upstream failed.", status = 502, streamed = false }, fields)
end

--- Plays a module that reaches out: `http`, `mcp`, `tools`, `python`, `llm` or `agent`. `player` gets the request and returns the
--- answer, or nil and why there is none. An answer of `http` may leave out `status` (200) and `headers`, and have `json` in place of
--- `body`; one of `llm` or `agent` may be just the text. Returns the list of requests, which grows as they come.
---@param module "http"|"mcp"|"tools"|"python"|"llm"|"agent"
---@param player fun(request: table): any, string?
---@return table[] requests
function test.fake(module, player)
  if type(module) ~= "string" or not table.find(FAKED, module) then
    local near = native.near(tostring(module), FAKED)
    local hint = near and (": did you mean `%s`?"):format(near) or "; there are " .. table.concat(FAKED, ", ")
    error(("test.fake: nobody plays `%s`%s"):format(tostring(module), hint), 2)
  elseif type(player) ~= "function" then
    error(("test.fake: the player must be a function, not %s"):format(type(player)), 2)
  end
  local requests = {}
  fakes["std." .. module] = { player = player, requests = requests }
  return requests
end

--- Stops the clock at `seconds` since 1970: `std.time` tells it, and sleeping moves it on. Nil lets it run again.
---@param seconds? number
function test.clock(seconds)
  native.clock(seconds)
end

--- The lines that scripts have logged in this case, as "level message fields".
---@return string[]
function test.lines()
  return native.lines()
end

local complete = {
  ["std.http"] = function(answer)
    answer.status = answer.status or 200
    answer.headers = answer.headers or {}
    if answer.json ~= nil then
      answer.body, answer.json = json.encode(answer.json), nil
    end
    answer.body = answer.body or ""
    return answer
  end,
  ["std.llm"] = function(answer)
    answer = type(answer) == "string" and { content = answer } or answer
    answer.usage = answer.usage or { prompt_tokens = 0, completion_tokens = 0, total_tokens = 0 }
    answer.finish = answer.finish or "stop"
    return answer
  end,
}
complete["std.agent"] = complete["std.llm"]

local function reach(module, request)
  local fake = fakes[module]
  if not fake then
    local short = module:gsub("^std%.", "")
    error(("the script reaches out by %s, and nobody plays it: test.fake(%q, function(request) ... end)"):format(module, short), 0)
  end
  table.insert(fake.requests, request)
  local answer, why = fake.player(request)
  if answer ~= nil and complete[module] then
    return complete[module](answer)
  end
  return answer, why
end

--- A whole run's outcome: what the client would have got, and what the run asked for.
---@class std.test.Outcome
---@field content? string The text.
---@field reasoning? string
---@field tool_calls? table[] Calls that the client is to execute, in OpenAI's form.
---@field finish? string
---@field usage? Usage
---@field chunks string[] The pieces in which the text left.
---@field error? { status: integer, code: string, message: string } Why the run failed.
---@field prompts table[] What the model was asked, in order.
---@field calls { name: string, arguments: table }[] The tool calls that were executed, in order.

--- How a whole run is asked and what is played to it.
---@class std.test.Chat
---@field model table|fun(prompt: Prompt, n: integer): any The model's replies in order: texts, or messages such as
--- `{ calls = { { name = "f", arguments = {} } } }`, or `{ error = "why" }` where the model fails; or a function that makes them.
---@field tools? table<string, fun(arguments: table): any, string?> The tools: each returns its result, or nil and its failure.
---@field headers? table<string, string>
---@field stream? boolean
---@field messages? Message[] In place of the one message of the user's.
---@field client_tools? table[] Tools that the client brings, in OpenAI's form.

---@class std.test.Agent
---@field name string
local Agent = {}

local function message(reply)
  if type(reply) == "string" then
    return { role = "assistant", content = reply }
  end
  local made = { role = "assistant", content = reply.content, reasoning_content = reply.reasoning, usage = reply.usage }
  if reply.calls then
    made.tool_calls = {}
    for n, call in ipairs(reply.calls) do
      local arguments = call.arguments or {}
      local text = type(arguments) == "string" and arguments or json.encode(arguments)
      made.tool_calls[n] = { id = "call_" .. n, type = "function", ["function"] = { name = call.name, arguments = text } }
    end
  end
  return made
end

--- The outcome, whose `error` counts as seen once somebody has read it.
local function watched(outcome, agent)
  local failure = outcome.error
  if not failure then
    return outcome
  end
  outcome.error = nil
  unseen[agent] = failure
  return setmetatable(outcome, {
    __index = function(_, name)
      if name == "error" then
        unseen[agent] = nil
        return failure
      end
      return nil
    end,
  })
end

--- Runs the agent of the configuration on what a user says, with its real hooks and limits, a scripted model and scripted tools.
--- A reply of the model that nobody used, a call of a tool that nobody plays, and an `error` of the outcome that the test does not look
--- at fail the test.
---@param input string
---@param options std.test.Chat
---@return std.test.Outcome
function Agent:chat(input, options)
  local prompts, calls, names = {}, {}, {}
  for name in pairs(options.tools or {}) do
    table.insert(names, name)
  end
  table.sort(names)
  local function play(kind, name, request)
    if kind == "model" then
      table.insert(prompts, request)
      local reply = type(options.model) == "function" and options.model(request, #prompts) or nil
      if type(options.model) == "table" then
        reply = options.model[#prompts]
      end
      if reply == nil then
        error(("the model is asked %d times, and has no reply to the last"):format(#prompts), 0)
      end
      if type(reply) == "table" and reply.error then
        return nil, reply.error
      end
      return message(reply)
    elseif kind == "tool" then
      table.insert(calls, { name = name, arguments = request })
      local tool = options.tools and options.tools[name]
      if not tool then
        error(("the tool `%s` is called, and nobody plays it: tools = { %s = function(arguments) ... end }"):format(name, name), 0)
      end
      return tool(request)
    end
    return reach(name, request)
  end
  local request = {
    messages = options.messages or { { role = "user", content = input } },
    headers = options.headers,
    stream = options.stream,
    tools = options.client_tools,
  }
  local outcome = native.rehearse(self.name, request, names, play)
  outcome.prompts, outcome.calls = prompts, calls
  if type(options.model) == "table" and not outcome.error and #options.model > #prompts then
    error(("the model has %d replies and was asked %d times"):format(#options.model, #prompts), 2)
  end
  return watched(outcome, self.name)
end

--- An agent of the configuration, for whole runs: `test.agent("assistant"):chat("hello", { model = { "hi" } })`.
---@param name string
---@return std.test.Agent
function test.agent(name)
  return setmetatable({ name = name }, { __index = Agent })
end

native.control.play = function(_, module, request)
  return reach(module, request)
end

local POINTS = { "on_request", "pre_prompt", "on_chunk", "on_tool_call", "on_tool_result", "post_response", "on_error" }

--- The hooks of a script that a test requires tell of verdicts that mean nothing at their point, as the gateway would.
native.control.check = function(script)
  for _, name in ipairs(POINTS) do
    local hook = rawget(script, name)
    if type(hook) == "function" and not table.isfrozen(script) then
      rawset(script, name, function(...)
        local n_made = native.made()
        local verdict = hook(...)
        local problem = native.problem(name, verdict, native.made() - n_made)
        if problem then
          error(problem, 2)
        end
        return verdict
      end)
    end
  end
end

native.control.reset = function()
  table.clear(fakes)
  table.clear(unseen)
end

native.control.finish = function()
  for agent, failure in pairs(unseen) do
    error(("the run of `%s` failed, and the test did not look at its `error`: %s: %s"):format(agent, failure.code, failure.message), 0)
  end
end

return test
