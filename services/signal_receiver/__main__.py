import sys

from chassis.run import run
from signal_receiver.app import ReceiverSettings, create_app

sys.exit(run(ReceiverSettings, create_app))
