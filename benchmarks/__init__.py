"""What a quote costs: the project's chain beside the plainest one, measured in one run on one machine."""
