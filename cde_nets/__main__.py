"""`python -m cde_nets` is `cde-nets`."""

from cde_nets.cli import main

main()
