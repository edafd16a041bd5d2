import sys

from chassis.run import run
from spsp_client.app import SpspClientSettings, create_app

sys.exit(run(SpspClientSettings, create_app))
