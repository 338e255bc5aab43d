"""`python -m pythonic_assistant.cli`: the `pythonic` command where it is not on the path."""

import sys

from pythonic_assistant.cli.command import main

sys.exit(main())
