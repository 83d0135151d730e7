"""Reads a dashboard with Grafana's own types and writes what they know of it: what is lost is no field of Grafana's."""

import json
import sys

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

plugins.register_default_plugins()
with open(sys.argv[1]) as file:
    dashboard = Dashboard.from_json(json.load(file))
print(JSONEncoder(sort_keys=True).encode(dashboard))
