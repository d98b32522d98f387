"""Load and oracle: events from a seed, an open-loop schedule, and every window recomputed."""
