"""`python -m sonoseek.apps.cli`: the same as the command `sonoseek`."""

from sonoseek.apps.cli.main import main

main()
