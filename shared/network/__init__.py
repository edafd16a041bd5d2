"""Start a whole quote network on one machine. Each service is one process; the database is an embedded Postgres."""
