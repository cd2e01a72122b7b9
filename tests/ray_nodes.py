"""`python tests/ray_nodes.py CPUS [CPUS ...]`: a Ray cluster on this machine, with a head that computes nothing.

It prints the address and takes commands on its standard input, a line each: `remove N` kills a node without grace. It
ends the cluster with its input.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ROOM = 80 * 2**20
START = 300.0
"""Seconds that a node may take to start; Ray itself gives it 30, which is too few on a busy machine."""


def main() -> None:
    """Serve until the input ends."""
    from ray._private import services
    from ray.cluster_utils import Cluster

    look = services.get_node

    def patient(*words: Any) -> Any:
        deadline = time.monotonic() + START
        while True:
            try:
                return look(*words)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)

    services.get_node = patient
    cluster = Cluster()
    cluster.add_node(num_cpus=0, object_store_memory=ROOM, include_dashboard=False, include_log_monitor=False)
    nodes = [
        cluster.add_node(num_cpus=int(n), num_gpus=0, object_store_memory=ROOM, include_log_monitor=False)
        for n in sys.argv[1:]
    ]
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        cluster.remove_node(nodes[int(line.split()[1])], allow_graceful=False)
        sys.stdout.write("removed\n")
        sys.stdout.flush()
    cluster.shutdown()


if __name__ == "__main__":
    main()
