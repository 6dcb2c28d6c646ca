"""markdown for a pull request."""
