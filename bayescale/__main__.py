"""`python -m bayescale` is the command `bayescale`."""

from bayescale.cli import main

main()
