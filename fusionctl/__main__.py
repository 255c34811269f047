"""`python -m fusionctl`."""

from fusionctl.cli import main

main()
