"""What any service stands on, whatever it does."""
