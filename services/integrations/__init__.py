"""integrations: sends events to the webhooks of partners (docs/integration-guide.md)."""
