"""`python -m tutorlib`: the command line."""

import sys

from tutorlib.command_line import main

sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a character shall not cost the text
sys.exit(main())
