"""What all pages share: style, script, pictures and drawings inside of them."""
