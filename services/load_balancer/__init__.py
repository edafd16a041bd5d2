"""load-balancer: one port for a service that has several replicas."""
