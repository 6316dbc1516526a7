"""Plan, train, stop, resume and show a sweep, in this process or elsewhere."""
