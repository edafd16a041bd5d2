import sys

from chassis.run import run
from console.app import create_app
from console.settings import ConsoleSettings

sys.exit(run(ConsoleSettings, create_app))
