"""`cd tests && python -m slurm start FOLDER` (as root): a cluster to play with; `stop` ends it."""

import sys
from pathlib import Path

from .cluster import Cluster
from .machine import install

if len(sys.argv) != 3 or sys.argv[1] not in {"start", "stop"}:
    sys.exit("usage: python -m slurm start|stop FOLDER")
cluster = Cluster(Path(sys.argv[2]))
if sys.argv[1] == "stop":
    cluster.stop()
elif reason := install():
    sys.exit(reason)
else:
    cluster.start()
    print(f"export SLURM_CONF={cluster.folder}/slurm.conf PATH={cluster.folder}/bin:$PATH")
