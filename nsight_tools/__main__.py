"""`python -m nsight_tools`: the command line, where its script is not on PATH."""

from nsight_tools.cli import main

main()
