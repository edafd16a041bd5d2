"""Start a whole quote network on one machine: each service as a process, with an embedded Postgres."""
