"""load-balancer: listens on one port and passes each connection to a ready replica of a service."""
