"""`python -m labelsmooth` is the command `labelsmooth`."""

import sys

from labelsmooth.cli import main

sys.exit(main())
