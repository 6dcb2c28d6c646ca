"""junit for a CI system's test page.

Jenkins, GitLab, Azure Pipelines and CircleCI show JUnit XML as test results, GitHub through an action. Not SARIF: a
result of SARIF stands at a line of a file, and a trace has neither.
"""
