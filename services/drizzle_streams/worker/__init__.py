"""SERVICE: one worker process; the machine of `core.worker` decides, everything here carries out."""
