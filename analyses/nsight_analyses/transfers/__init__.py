"""Transfers between host and GPU: pageable memory, exposed copies, copies that block the host, and the link."""
