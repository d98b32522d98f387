"""What the group-size tuner (`core.tuner`) is made of: estimates, costs, a band, the paper's controller."""
