import sys

from chassis.run import run
from central_directory.app import CentralDirectorySettings, create_app

sys.exit(run(CentralDirectorySettings, create_app))
