"""`instep` as it is installed; with PROOF_LEASE, leases last so many seconds, so that a test need not wait a minute."""

import os

from instep.app.cli import main
from instep.operations import executor
from instep.webhooks import processor

if __name__ == "__main__":
    if lease := int(float(os.environ.get("PROOF_LEASE", "0")) * 1_000):
        executor.LEASE_DURATION = lease
        vars(processor)["MINUTE"] = lease
    main()
