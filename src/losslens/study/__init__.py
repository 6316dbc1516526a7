"""Studies of trained variants: their codes, their colors, what varies by chance, their output space."""
