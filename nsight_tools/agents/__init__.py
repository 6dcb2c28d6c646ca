"""What coding agents are given: tools over the Model Context Protocol, and a text that says how to use them."""
