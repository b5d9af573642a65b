"""`python -m skiagraph`: the command line, without needing the script on the path."""

from skiagraph.cli import main

main()
