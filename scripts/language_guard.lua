--- Makes sure that the reply is in the wanted language: when it is not, the model rewrites its draft once, and that is the answer.
---
---   hooks:
---     - script: scripts/language_guard.lua
---       hold: true # or a streamed reply has left before anybody can look at it
---       config: { language: de }
---
--- It knows ar, de, el, en, es, fr, he, hi, it, ja, ko, nl, pt, ru, th, uk and zh, by their scripts and their commonest words.

local llm = require "std.llm"
local text = require "std.text"

---@type Script
local language_guard = {
  config = {
    language = "", -- such as "de"; "": the language of the question
    min_chars = 40, -- shorter replies are not judged
    model = "", -- who rewrites, as clients name it; "": the run's own model
  },
}

local NAMES = {
  ar = "Arabic",
  de = "German",
  el = "Greek",
  en = "English",
  es = "Spanish",
  fr = "French",
  he = "Hebrew",
  hi = "Hindi",
  it = "Italian",
  ja = "Japanese",
  ko = "Korean",
  nl = "Dutch",
  pt = "Portuguese",
  ru = "Russian",
  th = "Thai",
  uk = "Ukrainian",
  zh = "Chinese",
}

--- One letter of each script beside the Latin one: Lua's patterns see bytes, so these are the bytes of UTF-8.
local SCRIPTS = {
  cyrillic = "[\208-\211][\128-\191]",
  greek = "[\205-\207][\128-\191]",
  hebrew = "\215[\144-\170]",
  arabic = "[\216-\219][\128-\191]",
  devanagari = "\224[\164-\165][\128-\191]",
  thai = "\224[\184-\185][\128-\191]",
  kana = "\227[\129-\131][\128-\191]",
  han = "[\228-\233][\128-\191][\128-\191]",
  hangul = "[\234-\237][\128-\191][\128-\191]",
}

--- Scripts that only one of the languages has. Chinese is what has no kana between its characters.
local BY_SCRIPT = { greek = "el", hebrew = "he", arabic = "ar", devanagari = "hi", thai = "th", kana = "ja", han = "zh", hangul = "ko" }

--- Words that are common in one language and rare in the others, with some that two of them share.
local WORDS = {
  de = "der die das und ist nicht ein eine zu den dem von mit auf für sich auch es ich sie wir wird sind wie oder im was kann",
  en = "the of and to is that it for you with this are be as have not from or by what which can will how they on in",
  es = "el la los las de que y en un una es por con para no se del lo como más pero su está hay qué son al",
  fr = "le la les des et est un une du que qui dans pour pas sur avec ce il je vous nous ne sont au plus cette c'est d'un",
  it = "il lo la gli di che è un una per non con del della sono si da come più anche ma nel alla i questo",
  nl = "de het een en van is dat niet op te zijn met voor ook er aan maar om wordt je ik wat naar bij door",
  pt = "o a os as de que e do da em um uma para com não é no na por mais como se mas ao você são isso",
}

--- Each word's languages.
local LANGUAGES_OF = {}
for language, words in pairs(WORDS) do
  for _, word in ipairs(text.words(words)) do
    LANGUAGES_OF[word] = LANGUAGES_OF[word] or {}
    table.insert(LANGUAGES_OF[word], language)
  end
end

--- The most of a text that is looked at, in bytes.
local MAX_READ = 6000

--- Who asks for another language gets it.
local ASKS_FOR_ANOTHER = {
  "translat",
  "übersetz",
  "tradu",
  "vertaal",
  "перев",
  "перекла",
  "翻译",
  "翻訳",
  "번역",
  "ترجم",
  "auf englisch",
  "auf deutsch",
  "en français",
  "en anglais",
  "en español",
  "en inglés",
}
for _, name in pairs(NAMES) do
  table.insert(ASKS_FOR_ANOTHER, "in " .. name:lower())
end

--- The words of people: no code, no addresses.
local function prose(s)
  return (text.shorten(s, MAX_READ, ""):gsub("```.-```", " "):gsub("`[^`\n]*`", " "):gsub("%a+://%S+", " "))
end

local function count(s, pattern)
  local _, n = s:gsub(pattern, "")
  return n
end

--- The language whose common words are most of those in the text. Nil if it is a close race, or there are too few.
local function by_words(s)
  local hits, n_words = {}, 0
  for word in s:lower():gsub("[\194\226][\128-\191]+", " "):gmatch "[%a'\128-\255]+" do
    n_words = n_words + 1
    for _, language in ipairs(LANGUAGES_OF[word] or {}) do
      hits[language] = (hits[language] or 0) + 1
    end
  end
  local best, most, second = nil, 0, 0
  for language, n in pairs(hits) do
    if n > most then
      best, most, second = language, n, most
    elseif n > second then
      second = n
    end
  end
  return most >= 2 and most >= n_words * 0.12 and most > second * 1.2 and best or nil
end

--- The language of a text, nil if that is not clear.
local function language_of(s)
  s = prose(s)
  local n_latin, best, most = count(s, "%a"), nil, 0
  local counts = {}
  for script, pattern in pairs(SCRIPTS) do
    counts[script] = count(s, pattern)
    if counts[script] > most then
      best, most = script, counts[script]
    end
  end
  -- A letter of Han or kana says about as much as three of an alphabet.
  if n_latin > most * ((best == "han" or best == "kana") and 3 or 1) then
    return by_words(s)
  elseif best == "cyrillic" then
    -- The letters that Russian does not have.
    return count(s, "\209[\148\150\151]") > 0 and "uk" or "ru"
  elseif best == "han" and counts.kana * 5 > counts.han then
    return "ja"
  end
  return BY_SCRIPT[best]
end

local function asks_for_another(question)
  local lower = question:lower()
  for _, words in ipairs(ASKS_FOR_ANOTHER) do
    if text.contains(lower, words) then
      return true
    end
  end
  return false
end

--- The draft in another language. Nil and why if the model does not write it.
local function rewritten(draft, language, run)
  local reply, why = llm.chat {
    model = run.config.model ~= "" and run.config.model or nil,
    messages = {
      {
        role = "system",
        content = ("Rewrite the user's text in %s. Keep its meaning, its format, its code and its names. Write the text and nothing else."):format(
          NAMES[language] or language
        ),
      },
      { role = "user", content = draft },
    },
  }
  if not reply then
    return nil, why
  elseif text.is_blank(reply.content) then
    return nil, "the model wrote nothing"
  end
  return text.trim(reply.content)
end

function language_guard.pre_prompt(prompt, run)
  if run.state.wanted_language ~= nil then
    return
  end
  local message = text.last(prompt.messages)
  local question = message and text.of(message) or ""
  -- `false` is a decision, too: this run is not looked at.
  local wanted = run.config.language ~= "" and run.config.language or language_of(question)
  run.state.wanted_language = not asks_for_another(question) and wanted or false
end

function language_guard.post_response(reply, run)
  local wanted = run.state.wanted_language
  if not wanted or #reply.content < run.config.min_chars then
    return
  end
  local found = language_of(reply.content)
  if not found or found == wanted then
    return
  elseif reply.streamed then
    run.log.warn("the reply is in the wrong language and has left already: this hook needs `hold: true`", { found = found, wanted = wanted })
    return
  end
  local better, why = rewritten(reply.content, wanted, run)
  run.log.warn("the reply was in the wrong language", { found = found, wanted = wanted, rewritten = better ~= nil, why = why })
  if better then
    reply.content = better
  end
end

return language_guard
