"""An agent of the OpenAI Agents SDK: a researcher that looks things up, then hands over to a writer.

A configuration entry makes it a model for every chat client; this one is agents/researcher.yaml:

    kind: sdk
    module: agents.researcher:build_agent
    model: your-model

Nothing in this file knows of moongate. It is plain Agents SDK code, and the same file runs under `Runner.run` anywhere.
Agents without a `model` of their own use the one of the configuration entry, so it works with any model that can call
tools. Both tools answer from a small library below: no network, no key, and the same answer every time.
"""

from __future__ import annotations

from agents import Agent, function_tool

# In your own agent this is a database, a search index or a service.
LIBRARY = {
    "Apollo 11": "Apollo 11 landed on the Moon on 20 July 1969. Two of its crew walked there for two and a half hours.",
    "Lunar dust": "Lunar dust is sharp, because no wind or water rounds it. It clings to suits and wears out seals.",
    "Tides": "The Moon's gravity raises two tides a day. The Sun's is about half as strong and adds to it at new moon.",
    "Lua": "Lua is a small scripting language from Rio de Janeiro, first released in 1993. Its name means moon.",
}


# The SDK makes the tool's definition from the type hints and the docstring. The model knows nothing else about it.
@function_tool
def search_library(query: str) -> list[str]:
    """Search the library, and return the titles of the articles that mention any word of the query.

    Args:
        query: A few keywords, such as "moon landing".
    """
    words = query.lower().split()
    return [title for title, text in LIBRARY.items() if any(word in f"{title} {text}".lower() for word in words)]


@function_tool
def read_article(title: str) -> str:
    """Read one article of the library.

    Args:
        title: The exact title, as the search returned it.
    """
    # What goes wrong is told in words, so that the model can correct itself.
    return LIBRARY.get(title) or f"There is no article `{title}`. The titles are: {', '.join(LIBRARY)}."


def build_agent() -> Agent:
    """Called once, when the module is loaded. Every request then runs the agent that it returns."""
    writer = Agent(
        name="Writer",
        # What the researcher's model reads about the writer when it decides whether to hand over.
        handoff_description="Turns the facts that were found into a short, readable answer.",
        instructions=(
            "Write the answer to the user's question in at most five sentences. "
            "Use only the facts found in the conversation, and name the articles that they come from."
        ),
    )
    return Agent(
        name="Researcher",
        instructions=(
            "You research questions in a small library. First search it, then read the articles that fit. "
            "When you have the facts, hand over to the writer. If the library has nothing, say so yourself."
        ),
        tools=[search_library, read_article],
        # The model sees a tool `transfer_to_writer`. After it is called, the writer has the conversation.
        handoffs=[writer],
    )
