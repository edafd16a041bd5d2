"""integrations: delivers a user's events to the webhooks of other companies (ProQuant's integration guide)."""
