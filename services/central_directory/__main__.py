import sys

from central_directory.app import CentralDirectorySettings, create_app
from chassis.run import run

sys.exit(run(CentralDirectorySettings, create_app))
