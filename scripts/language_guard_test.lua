local test = require "std.test"
local language_guard = require "language_guard"

local TEXTS = {
  en = "The sky is blue because the air scatters short waves of light more than long ones, and that is what you see.",
  de = "Der Himmel ist blau, weil die Luft kurze Wellen stärker streut als lange, und das ist es, was wir sehen können.",
  fr = "Le ciel est bleu parce que l'air diffuse les ondes courtes plus que les longues, et c'est ce que nous voyons.",
  es = "El cielo es azul porque el aire dispersa más las ondas cortas que las largas, y eso es lo que vemos en el día.",
  it = "Il cielo è blu perché l'aria diffonde le onde corte più di quelle lunghe, e questo è ciò che vediamo di giorno.",
  pt = "O céu é azul porque o ar espalha mais as ondas curtas do que as longas, e isso é o que você vê durante o dia.",
  nl = "De lucht is blauw omdat korte golven van het licht meer worden verstrooid dan lange, en dat is wat je dan ziet.",
  ru = "Небо голубое, потому что воздух рассеивает короткие волны сильнее длинных.",
  uk = "Небо блакитне, бо повітря розсіює короткі хвилі сильніше за довгі, і їх ми бачимо.",
  el = "Ο ουρανός είναι γαλάζιος επειδή ο αέρας σκεδάζει περισσότερο τα μικρά μήκη κύματος.",
  ar = "السماء زرقاء لأن الهواء يشتت الموجات القصيرة أكثر من الموجات الطويلة.",
  he = "השמים כחולים מפני שהאוויר מפזר גלים קצרים יותר מאשר גלים ארוכים.",
  hi = "आकाश नीला है क्योंकि हवा छोटी तरंगों को लंबी तरंगों से अधिक बिखेरती है।",
  ja = "空が青いのは、空気が長い波より短い波をよく散乱させるからです。",
  ko = "하늘이 파란 이유는 공기가 긴 파장보다 짧은 파장을 더 많이 산란시키기 때문입니다.",
  th = "ท้องฟ้าเป็นสีฟ้าเพราะอากาศกระเจิงคลื่นสั้นได้มากกว่าคลื่นยาว",
  zh = "天空之所以是蓝色的,是因为空气对短波的散射比对长波的散射更强。",
}

--- The model rewrites whatever it is asked to. Returns what it was asked.
local function rewriting(as)
  return test.fake("llm", function()
    return as or "rewritten"
  end)
end

--- What the client gets for `draft` when it asked `question`.
local function answered(question, draft, config, fields)
  local run = test.run { config = config }
  language_guard.pre_prompt(test.prompt(question), run)
  local reply = test.reply(draft, fields)
  language_guard.post_response(reply, run)
  return reply.content
end

test.case("it knows its languages", function()
  for language, draft in pairs(TEXTS) do
    local asked = rewriting()
    answered("?", draft, { language = language })
    test.equal(#asked, 0, language .. " is taken for another")
    answered("?", draft, { language = language == "en" and "de" or "en" })
    test.equal(#asked, 1, language .. " is not recognized")
  end
end)

test.case("a reply in the wrong language is rewritten from the draft", function()
  local asked = rewriting(TEXTS.de)
  test.equal(answered(TEXTS.de, TEXTS.en, { model = "polyglot" }), TEXTS.de)
  test.equal(asked[1].model, "polyglot")
  test.contains(asked[1].messages[1].content, "in German")
  test.equal(asked[1].messages[2].content, TEXTS.en)
  test.equal(test.lines(), { 'warn the reply was in the wrong language {"found":"en","rewritten":true,"wanted":"de"}' })
end)

test.case("a reply in the language of the question is left alone", function()
  test.equal(answered(TEXTS.fr, TEXTS.fr), TEXTS.fr)
  test.equal(answered(TEXTS.zh, TEXTS.zh), TEXTS.zh)
end)

test.case("what is not clear is left alone", function()
  test.equal(answered("2 + 2?", TEXTS.en), TEXTS.en, "the question has no language")
  test.equal(answered(TEXTS.de, "Yes, it is."), "Yes, it is.", "too short")
  local numbers = ("1234567890 "):rep(10)
  test.equal(answered(TEXTS.de, numbers), numbers)
  local code = "```\n" .. TEXTS.en .. "\n```\n" .. TEXTS.de
  test.equal(answered(TEXTS.de, code), code, "code is in no language of people")
end)

test.case("who asks for another language gets it", function()
  for _, question in ipairs {
    "What is the German word for the sky, and can you translate this for me?",
    "Wie sagt man das, kannst du es mir bitte übersetzen?",
    "Please tell me what the sky is, in German.",
  } do
    test.equal(answered(question, TEXTS.fr), TEXTS.fr, question)
  end
end)

test.case("a streamed reply has left, and the log says what is missing", function()
  test.equal(answered(TEXTS.de, TEXTS.en, nil, { streamed = true }), TEXTS.en)
  test.contains(test.lines()[1], "needs `hold: true`")
end)

test.case("without the model the draft stays", function()
  test.fake("llm", function()
    return nil, "the model is away"
  end)
  test.equal(answered(TEXTS.de, TEXTS.en), TEXTS.en)
  test.contains(test.lines()[1], "the model is away")
  rewriting " "
  test.equal(answered(TEXTS.de, TEXTS.en), TEXTS.en)
end)

test.case("the question is read once in a run", function()
  rewriting()
  local run = test.run()
  language_guard.pre_prompt(test.prompt(TEXTS.de), run)
  language_guard.pre_prompt(test.prompt(TEXTS.fr), run)
  test.equal(run.state.wanted_language, "de")
end)
