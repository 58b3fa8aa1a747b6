"""What is left, what failed, which model is better."""
