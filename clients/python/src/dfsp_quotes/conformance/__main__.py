"""`python -m dfsp_quotes.conformance URL`."""

import sys

from dfsp_quotes.conformance.command import main

sys.exit(main(sys.argv[1:]))
