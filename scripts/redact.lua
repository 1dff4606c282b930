--- No personal data reaches the model. It reads pseudonyms such as `[EMAIL_1]`; tools and the reply get the originals back.
---
---   hooks:
---     - scripts/redact.lua # or, with settings of your own:
---     - script: scripts/redact.lua
---       config: { kinds: [email, phone], patterns: { customer: "C-[0-9]{6}" } }
---       timeout: 1s # a conversation of a megabyte takes about 0.2 s of CPU, more than a hook has by default
---
--- The agent's own instructions are not searched. The conversation itself keeps the originals: only what the model reads changes.

local privacy = require "std.redact"

---@type Script
local redact = {
  config = {
    kinds = { "email", "phone", "credit_card", "iban", "us_ssn", "api_key", "url_password" }, -- also: ipv4, ipv6
    patterns = {}, -- kinds of your own: a name, and a pattern of std.regex
    allow = {}, -- texts that are left alone, such as your own address
    restore = true, -- pseudonyms, and the originals back where they are needed; false: a placeholder, for good
    placeholder = "[%s]", -- without `restore`; `%s` is the kind
  },
}

local function what_to_find(config)
  return { kinds = config.kinds, patterns = config.patterns, allow = config.allow, placeholder = config.placeholder }
end

--- Which pseudonym stands for which value in this run. Nil while there is none: then there is nothing to put back.
local function vault_of(run)
  local vault = privacy.vault(run.state)
  return next(vault.originals) and vault
end

function redact.pre_prompt(prompt, run)
  local options = what_to_find(run.config)
  local count
  if run.config.restore then
    count = privacy.messages(prompt.messages, privacy.vault(run.state), options)
  else
    count = privacy.messages(prompt.messages, options)
  end
  if count > 0 then
    run.log.debug("personal data was kept from the model", { findings = count })
  end
end

function redact.on_tool_call(call, run)
  local vault = vault_of(run)
  if vault then
    privacy.unmask(call.arguments, vault)
  end
end

function redact.on_chunk(chunk, run)
  local vault = vault_of(run)
  if not vault then
    return
  end
  -- A pseudonym may come in several pieces: a stream keeps back what could be the beginning of one.
  local streams = run.state.redact_streams or {}
  run.state.redact_streams = streams
  local stream = streams[chunk.choice] or privacy.unmask_stream(vault)
  if chunk.last then
    chunk.text = stream:finish()
    streams[chunk.choice] = nil
  else
    chunk.text = stream:push(chunk.text)
    streams[chunk.choice] = stream
  end
end

return redact
