--- Looks the user's question up in a search service, once a run, and puts the passages that it finds before the question.
---
---   hooks:
---     - script: scripts/retrieval.lua
---       config:
---         url: https://search.example.com/v1/passages
---         headers: { Authorization: "Bearer ${SEARCH_TOKEN}" }
---         passages: $.results[*].text
---
--- A service on a private address needs `egress: { allow: [...] }` in the gateway's configuration.

local http = require "std.http"
local json = require "std.json"
local text = require "std.text"

---@type Script
local retrieval = {
  config = {
    url = "", -- of the service; must be set
    headers = {}, -- sent with each search
    parameter = "q", -- the question as this parameter of the address, by GET
    field = "", -- or, if set, as this field of a JSON body, by POST
    body = {}, -- further fields of that body
    passages = "$.results[*].text", -- JSONPath: where the passages are in the answer
    max_passages = 5,
    max_chars = 6000, -- of all passages together
    timeout = 5, -- seconds
    required = false, -- whether the run fails when the service does; else it goes on without passages
    intro = "These passages may help to answer. Use what fits, and say so when they do not answer the question.",
  },
}

--- The longest question that is searched for, in bytes.
local MAX_QUESTION = 1000

--- What the service answers. Nil and why if it does not.
local function search(question, config)
  local options = { method = "GET", url = config.url, headers = config.headers, timeout = config.timeout }
  if config.field ~= "" then
    local body = { [config.field] = question }
    for name, value in pairs(config.body) do
      body[name] = value
    end
    options.method, options.json = "POST", body
  else
    options.query = { [config.parameter] = question }
  end
  local response, why = http.request(options)
  if not response then
    return nil, why
  elseif not response.ok then
    return nil, "it answered with status " .. response.status
  end
  return response:json()
end

--- The first passages, numbered, as many as there is room for. Nil if there are none.
local function chosen(answer, config)
  local lines, room = {}, config.max_chars
  for _, passage in ipairs(json.query(answer, config.passages)) do
    if #lines == config.max_passages or room <= 0 then
      break
    end
    passage = text.trim(type(passage) == "string" and passage or json.encode(passage))
    if passage ~= "" then
      passage = text.shorten(passage, room)
      room = room - #passage
      table.insert(lines, ("[%d] %s"):format(#lines + 1, passage))
    end
  end
  return lines[1] and table.concat(lines, "\n\n")
end

--- Puts the passages before a message's own words.
local function add(message, passages, intro)
  local before = intro .. "\n\n" .. passages
  if type(message.content) == "table" then
    table.insert(message.content, 1, { type = "text", text = before })
  else
    message.content = before .. "\n\n" .. text.of(message)
  end
end

function retrieval.pre_prompt(prompt, run)
  local config, message = run.config, text.last(prompt.messages)
  if config.url == "" then
    error "retrieval.lua needs the `url` of a search service in its config"
  elseif not message or text.is_blank(text.of(message)) then
    return
  end

  -- A change of the prompt holds for one model call: the passages are found once and put in each time.
  if run.state.passages == nil then
    local answer, why = search(text.shorten(text.of(message), MAX_QUESTION), config)
    if answer == nil then
      run.log.warn("the search failed", { url = config.url, why = why })
      if config.required then
        return run:abort(503, "The search that this agent needs is not available.")
      end
    end
    run.state.passages = answer ~= nil and chosen(answer, config) or ""
  end
  if run.state.passages ~= "" then
    add(message, run.state.passages, config.intro)
  end
end

return retrieval
