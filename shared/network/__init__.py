"""Starts a whole quote network on one machine: each service a process, Postgres embedded."""
