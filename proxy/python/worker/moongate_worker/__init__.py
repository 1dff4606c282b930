"""The Python half of a moongate worker: one event loop that runs agents and tools for the gateway."""
