"""The parts of commands that need the packages of the quoting project. They are imported when such a command runs."""
