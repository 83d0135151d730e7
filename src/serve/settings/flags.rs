//! The flags of a server, as a table: name, value, default and help. It reads nothing.

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    /// Name of its value; none for a switch.
    pub value: Option<&'static str>,
    /// The default, as it would be written; empty for a switch.
    pub default: &'static str,
    /// One sentence for people.
    pub help: &'static str,
}

impl Flag {
    /// The environment variable that it is read from.
    pub fn variable(&self) -> String {
        format!("EMBERLINE_{}", self.name.replace('-', "_").to_uppercase())
    }
}

const fn flag(name: &'static str, value: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        value: Some(value),
        default,
        help,
    }
}

const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        value: None,
        default: "",
        help,
    }
}

/// The flags of a server, in the order of the help.
pub const FLAGS: [Flag; 18] = [
    flag("host", "HOST", "127.0.0.1", "Address to listen on"),
    flag("port", "PORT", "5000", "Port to listen on; 0 takes a free one"),
    flag(
        "grpc-port",
        "PORT",
        "",
        "Speak gRPC as well, on this port; 0 takes a free one",
    ),
    switch(
        "allow-public",
        "Listen beyond this machine, though without --keys anyone who reaches the port is answered",
    ),
    flag(
        "keys",
        "FILE",
        "",
        "Let in who has a key of this file, which `emberline keys add` writes; changes need no restart",
    ),
    flag(
        "tls-cert",
        "FILE",
        "",
        "Speak TLS with the certificate in this PEM file, its own first; changes need no restart",
    ),
    flag("tls-key", "FILE", "", "The certificate's private key, in a PEM file"),
    switch(
        "access-log",
        "Write a line of JSON for each request on stdout, or on stderr with --inherit",
    ),
    flag(
        "max-body",
        "BYTES",
        "16777216",
        "Largest body of a request; a larger one is answered with 413",
    ),
    flag(
        "queue",
        "REQUESTS",
        "256",
        "Requests that wait for the model before more are answered with 429",
    ),
    flag(
        "max-batch",
        "INPUTS",
        "64",
        "Inputs that go through the model at once when requests have gathered",
    ),
    flag(
        "cache",
        "POLICY:ENTRIES",
        "",
        "Keep so many answers to give them again: `lru:10000` drops the longest unused, `lfu:10000` the least often asked for",
    ),
    flag(
        "drift-window",
        "SECONDS",
        "3600",
        "Window that drift is measured over; it is longer while it holds too little to say anything",
    ),
    flag(
        "threads",
        "COUNT",
        "0",
        "Threads that serve connections; 0 takes one for each core",
    ),
    flag(
        "drain",
        "SECONDS",
        "0",
        "After SIGTERM go on accepting for so long, with readiness 503, while load balancers look away; up to 10 s more while they do not",
    ),
    flag(
        "idle-grace",
        "SECONDS",
        "2",
        "After SIGTERM leave idle connections open for so long, so that a request on its way is answered",
    ),
    flag(
        "grace",
        "SECONDS",
        "25",
        "After SIGTERM let requests in flight take up to so long",
    ),
    switch(
        "inherit",
        "For supervisors: accept from the listening socket on stdin, and speak the control protocol on stdout",
    ),
];
