import sys

from chassis.run import run
from spsp_client_proxy.app import SpspClientProxySettings, create_app

sys.exit(run(SpspClientProxySettings, create_app))
