"""signal-receiver: a webhook that receives the platform's signals and executes them as paper trades."""
