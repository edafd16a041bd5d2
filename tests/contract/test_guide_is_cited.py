"""A test cites each sentence of the integration guide that states a duty, word for word."""

from support.guide import GUIDE, citations, statements

MIN_CHARACTERS = 12
"""Minimum length of a citation; a shorter one could be part of any sentence."""

SAID = statements(GUIDE.read_text())

# introductions, headings of tables and descriptions, which state no duty
DESCRIBES = (
    "Welcome to the ProQuant Integration guide!",
    "This guide assumes the reader is a developer",
    "We strongly encourage you to download the ProQuant app",
    "We'll be covering things from the perspective of a single user.",
    "For the purpose of this guide, let's assume",
    "Let's look at how to connect these accounts",
    "Every time a ProQuant strategy generates a signal, a simulated position is opened/closed",
    "The goal of the guide is to show how to:",
    "Create an Integration request",
    "Handle received Events",
    "Respond to received Events",
    "An Integration is data that describes a destination",
    "The request for creating an Integration request:",
    "Let's first take a look at how versioning works.",
    "POST webhook.url Request payload",
    "DISCLAIMER: The above is just an example",
    "Version | Status | Deprecated on",
    "Type | What happened | data",
    "Here's an example request payload you may receive",
    "We've covered what Events are",
    "Finally, let's look at how to appropriately respond",
    "Type | When to use",
    "That's it for the guide, thank you for reading!",
    "If you have any suggestions or questions",
    "Event in version 1 format",
    "Event in version 2 format",
)


def test_every_duty_of_the_guide_is_cited():
    cited = [each for each in citations() if len(each) >= MIN_CHARACTERS]
    duties = [each for each in SAID if not each.startswith(DESCRIBES)]

    assert len(duties) > len(DESCRIBES)
    assert [] == [
        each for each in duties if not any(part in each or each.rstrip(".") in part for part in cited)
    ]


def test_every_citation_is_in_the_guide():
    everything = " ".join(SAID)

    assert [] == [each for each in sorted(citations()) if each not in everything]


def test_every_listed_description_is_in_the_guide():
    assert [] == [start for start in DESCRIBES if not any(each.startswith(start) for each in SAID)]
