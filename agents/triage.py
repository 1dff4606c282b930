"""An agent of the OpenAI Agents SDK: a front desk that passes each question on to one of three specialists.

A configuration entry makes it a model for every chat client; this one is agents/triage.yaml:

    kind: sdk
    module: agents.triage:build_agent
    model: your-model

The front desk has no tools, only handoffs. Each specialist has one tool and its own instructions, and can pass the user
back to the front desk when the question turns out to be somebody else's. The tools answer from the tables below, so
that the example needs no network and gives the same answer every time.
"""

from __future__ import annotations

from agents import Agent, function_tool

# In your own agent these are the systems of your company.
INVOICES = {"INV-1001": ("49.00 EUR", "paid"), "INV-1002": ("120.00 EUR", "due on 1 July")}
SERVICES = {"api": "up", "dashboard": "slow since 09:40; a fix is on its way", "email": "up"}
ORDERS = {"A-17": "left the warehouse, arrives tomorrow", "A-18": "waits for the payment"}


@function_tool
def look_up_invoice(number: str) -> str:
    """Look up the amount and the state of an invoice.

    Args:
        number: The invoice's number, such as "INV-1001".
    """
    if number not in INVOICES:
        return f"There is no invoice {number}. Ask the user to check the number."
    amount, state = INVOICES[number]
    return f"Invoice {number}: {amount}, {state}."


@function_tool
def service_status(service: str) -> str:
    """Tell whether a service works right now.

    Args:
        service: One of "api", "dashboard" and "email".
    """
    return SERVICES.get(service.lower(), f"Unknown service. Known are: {', '.join(SERVICES)}.")


@function_tool
def track_order(order: str) -> str:
    """Tell where an order is.

    Args:
        order: The order's id, such as "A-17".
    """
    return ORDERS.get(order, f"There is no order {order}. Ask the user to check the id.")


def build_agent() -> Agent:
    """Called once, when the module is loaded. Every request then runs the agent that it returns."""
    specialists = [
        Agent(
            name="Billing",
            handoff_description="Invoices, payments and refunds.",
            instructions="You answer questions about invoices. Look the invoice up before you say anything about it.",
            tools=[look_up_invoice],
        ),
        Agent(
            name="Technical",
            handoff_description="Anything that does not work.",
            instructions="You help with technical problems. Check the service's status first, then give one next step.",
            tools=[service_status],
        ),
        Agent(
            name="Shipping",
            handoff_description="Where an order is, and when it arrives.",
            instructions="You answer questions about orders. Track the order before you say anything about it.",
            tools=[track_order],
        ),
    ]
    front_desk = Agent(
        name="Front desk",
        instructions=(
            "You are the front desk of a small company. Pass each question on to the specialist whose field it is. "
            "Answer greetings and small talk yourself. If you cannot tell, ask one short question."
        ),
        handoffs=[*specialists],
    )
    # Handoffs may form circles: a specialist who got the wrong question passes it back.
    for specialist in specialists:
        specialist.handoffs.append(front_desk)
    return front_desk
