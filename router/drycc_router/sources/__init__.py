"""Where Changes come from. A source yields batches of them; what they mean is decided above."""
