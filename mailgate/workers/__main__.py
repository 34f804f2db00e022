"""`python -m mailgate.workers`: one worker, as the parent starts it. The argument is for ps(1) alone."""

from mailgate.workers.child import main

main()
