"""The parts that every service uses."""
