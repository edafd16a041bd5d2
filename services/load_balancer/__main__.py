import sys

from chassis.run import run_listening
from load_balancer.app import LoadBalancerSettings, serve

sys.exit(run_listening(LoadBalancerSettings, serve))
