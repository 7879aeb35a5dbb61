"""Where things are found: the paths of hrefs."""

from engine.rest.operation import OVIRT

DISKS = f"{OVIRT}/disks"
DOMAINS = f"{OVIRT}/storagedomains"
CENTERS = f"{OVIRT}/datacenters"
CLUSTERS = f"{OVIRT}/clusters"
HOSTS = f"{OVIRT}/hosts"
JOBS = f"{OVIRT}/jobs"
EVENTS = f"{OVIRT}/events"
USERS = f"{OVIRT}/users"

# There is one data center, and one cluster in it: oVirt's clients ask for them by name.
CENTER_NAME = "Default"
CENTER = "5c4e0f0a-5d3a-4d4e-9a5e-1ea5e401d000"
CLUSTER = "5c4e0f0a-5d3a-4d4e-9a5e-1ea5e401d001"
