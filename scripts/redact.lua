--- No e-mail address reaches the model.
---
--- What users write and what tools return is searched; the agent's own instructions are not.
--- The conversation itself keeps the addresses: a hook changes what this one model call reads.

---@type Script
local redact = {
  config = {
    placeholder = "[email]", -- stands for each address
  },
}

--- An address: a name, `@`, and a domain with at least one dot.
local ADDRESS = "[%w._%%+-]+@%w[%w-]*%.[%w.-]*%w"

local function without_addresses(text, placeholder)
  return (text:gsub(ADDRESS, function()
    return placeholder
  end))
end

function redact.pre_prompt(prompt, run)
  for _, message in ipairs(prompt.messages) do
    if message.role == "user" or message.role == "tool" then
      local content = message.content
      if type(content) == "string" then
        message.content = without_addresses(content, run.config.placeholder)
      elseif type(content) == "table" then
        -- A list of parts: text, images, files.
        for _, part in ipairs(content) do
          if type(part.text) == "string" then
            part.text = without_addresses(part.text, run.config.placeholder)
          end
        end
      end
    end
  end
end

return redact
