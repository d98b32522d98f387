"""What a service says about itself: metrics, logs and their exposition."""
