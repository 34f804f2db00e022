"""`python -m mailgate.cli`"""

import sys

from mailgate.cli import main

sys.exit(main())
