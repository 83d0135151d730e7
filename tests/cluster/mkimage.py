#!/usr/bin/env python3
"""Makes a container image of one layer from a folder, as `docker save` would write it: no daemon, no base image.

The same folder gives the same image: no times, no owners.
"""

import argparse
import hashlib
import io
import json
import platform
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def anonymous(entry):
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = "root"
    return entry


def digest(data):
    return hashlib.sha256(data).hexdigest()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("reference", help="NAME:TAG")
parser.add_argument("output", help="the archive to write")
parser.add_argument("root", help="the folder that becomes the root of the file system")
parser.add_argument("--entrypoint", help="the program")
parser.add_argument("--cmd", action="append", help="an argument of it")
parser.add_argument("--user", help="the user id that it runs as")
parser.add_argument("--stop-signal", help="what tells it to go, SIGTERM otherwise")
arguments = parser.parse_args()

layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as archive:
    archive.add(arguments.root, arcname=".", filter=anonymous)
layer = layer.getvalue()

machine = platform.machine()
config = {
    "architecture": ARCHITECTURES.get(machine, machine),
    "os": "linux",
    "created": "1970-01-01T00:00:00Z",
    "config": {"WorkingDir": "/", "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest(layer)]},
    "history": [{"created": "1970-01-01T00:00:00Z"}],
}
if arguments.entrypoint:
    config["config"]["Entrypoint"] = [arguments.entrypoint]
if arguments.cmd:
    config["config"]["Cmd"] = arguments.cmd
if arguments.user:
    config["config"]["User"] = arguments.user
if arguments.stop_signal:
    config["config"]["StopSignal"] = arguments.stop_signal
config = json.dumps(config).encode()

files = {digest(config) + ".json": config, digest(layer) + "/layer.tar": layer}
config_name, layer_name = files
manifest = [{"Config": config_name, "RepoTags": [arguments.reference], "Layers": [layer_name]}]
files["manifest.json"] = json.dumps(manifest).encode()
with tarfile.open(arguments.output, "w") as archive:
    for name, data in files.items():
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
