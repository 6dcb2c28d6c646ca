"""html: one page with figures."""
