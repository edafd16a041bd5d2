"""signal-receiver: a webhook that trades on paper what a platform's strategies signal."""
