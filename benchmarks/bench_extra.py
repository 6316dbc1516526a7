"""Ends the program that imports it in its first second if hydra-joblib-launcher is not installed."""

import sys
from importlib.util import find_spec

if find_spec("hydra_plugins.hydra_joblib_launcher") is None:
    sys.exit("this needs hydra-joblib-launcher, which make bench installs, or pip install -e '.[bench]'")
