"""`python -m tutorlib`: the command line."""

import sys

from tutorlib.command_line import main

sys.exit(main())
