"""`instep` as it is installed; with PROOF_LEASE, leases last so many seconds, so that a test need not wait a minute."""

import os

from instep.app.cli import main
from instep.inbox import work
from instep.journal import run

if __name__ == "__main__":
    if lease := int(float(os.environ.get("PROOF_LEASE", "0")) * 1_000):
        run.LEASE = lease
        vars(work)["MINUTE"] = lease
    main()
