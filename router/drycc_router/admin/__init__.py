"""The operator's port: what is in force, whether it is well, and how much it does. Nothing here changes any of it."""
