import sys

from chassis.run import run
from spsp_server.app import SpspServerSettings, create_app

sys.exit(run(SpspServerSettings, create_app))
