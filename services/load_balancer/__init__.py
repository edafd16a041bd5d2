"""load-balancer: listens on one port and passes each connection to a replica of a service that is ready."""
