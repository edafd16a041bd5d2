import sys

from chassis.run import run
from spsp_server_backend.app import SpspServerBackendSettings, create_app

sys.exit(run(SpspServerBackendSettings, create_app))
