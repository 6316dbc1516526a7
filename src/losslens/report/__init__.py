"""What a sweep shows: its sheet and its table."""
