"""What is in `inside` belongs to the guest."""

import os

IN_GUEST = "LEASEHOLD_IN_GUEST"  # in the environment of all that runs there

collect_ignore = [] if os.environ.get(IN_GUEST) else ["inside"]
