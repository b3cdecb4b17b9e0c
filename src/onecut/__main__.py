"""``python -m onecut``: the same as ``onecut``."""

from onecut.cli.main import main

main()
