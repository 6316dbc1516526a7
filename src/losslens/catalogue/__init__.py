"""The catalogue of losses: measured, trained and written as a page."""
