"""Parts that all pages share: style, script, embedded pictures and drawings."""
