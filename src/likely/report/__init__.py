"""Pictures and HTML, used by everything that shows results."""
