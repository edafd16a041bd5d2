"""The chain: what travels, how it comes in, how it goes on."""
