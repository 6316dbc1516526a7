"""From configurations to the folders of a sweep."""
