# shellcheck shell=bash disable=SC2034 # whoever sources this uses its part
# What the commands of this folder share: where things are, and how a program is started and waited for. It holds nothing
# that is particular to one program.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Everything that is written, but for the logs of pods, which the kubelet keeps in /var/log.
DIR=${LOCAL_CLUSTER_DIR:-/var/lib/local-cluster}
BIN=$DIR/bin RUN=$DIR/run VAR=$DIR/var ETC=$DIR/etc PKI=$DIR/pki LOG=$DIR/log
KUBECONFIG_FILE=$DIR/kubeconfig
SOCKET=$RUN/containerd/containerd.sock

NODE=node1
# The address of an empty bridge, of the node, of the API server and of the name server.
IP=10.254.254.1
PODS=10.244.0.0/24 SERVICES=10.96.0.0/16
API_PORT=6443 ETCD_PORT=22379 REGISTRY_PORT=25000

fail() { # WHAT [HINT]
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  hint: %s\n' "$2" >&2
    exit 1
}

as_root() { # a command of this folder, for the hint
    [ "$(id -u)" = 0 ] || fail "\`$1\` needs root" "sudo env \"PATH=\$PATH\" tests/cluster/$1"
}

# Whether what its pid file names runs. A pid file outlives a reboot, so the process must be one of ours: each has a path
# below $DIR in its command line. Unlike `kill -0` this works for every user.
alive() { # NAME
    [ -s "$RUN/$1.pid" ] && grep -qzF "$DIR/" "/proc/$(<"$RUN/$1.pid")/cmdline" 2>/dev/null
}

# One at a time. What is started must not inherit the lock: see `start`.
lock() { # NAME
    mkdir -p "$RUN"
    exec 9>"$RUN/$1.lock"
    flock 9
}

# Starts a program that is to outlive this shell, unless it runs.
start() { # NAME COMMAND...
    local name=$1
    shift
    alive "$name" && return
    mkdir -p "$LOG"
    setsid nohup "$@" >>"$LOG/$name.log" 2>&1 </dev/null 9>&- &
    echo $! >"$RUN/$name.pid"
}

# Waits until a command succeeds.
wait_for() { # SECONDS WHAT COMMAND...
    local attempts=$(($1 * 5)) what=$2
    shift 2
    for ((; attempts > 0; attempts--)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.2
    done
    tail -n 5 "$LOG"/*.log >&2
    fail "waited in vain for $what" "the logs above are in $LOG"
}
