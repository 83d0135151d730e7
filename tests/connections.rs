//! Connections that do nothing: they are let go when the system has no room for others, and it is said.

mod fixture;

use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use fixture::http::{Connection, get};
use fixture::process::{Server, clean, start};

/// The server with so many open files at the most, soft and hard.
fn with_files(most: u32, flags: &[&str]) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = fixture::digits_bundle(folder.path());
    let mut command: Command = clean("sh");
    command
        .args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_emberline-server"))
        .arg(&bundle)
        .args(["--port", "0"])
        .args(flags);
    (folder, Server::start(command))
}

#[test]
fn idle_connections_make_room_for_others() {
    let (_folder, server) = with_files(64, &[]);
    let idle: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(server.address).expect("the kernel holds it"))
        .collect();
    server.says("no room for another connection");
    let began = Instant::now();
    assert_eq!(get(server.address, "/readyz").status, 200);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    drop(idle);
    let page = get(server.address, "/metrics").text();
    let open = page
        .lines()
        .find_map(|line| line.strip_prefix("emberline_connections ")?.parse::<i64>().ok());
    assert!(open.is_some_and(|open| (1..64).contains(&open)), "{open:?}");
}

#[test]
fn a_soft_limit_of_open_files_is_raised() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = fixture::digits_bundle(folder.path());
    let mut command = clean("sh");
    command
        .args(["-c", "ulimit -Sn 64; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_emberline-server"))
        .arg(&bundle)
        .args(["--port", "0"]);
    let server = Server::start(command);
    let idle: Vec<Connection> = (0..100)
        .map(|_| {
            let mut open = Connection::open(server.address).expect("connected");
            assert_eq!(open.get("/livez").expect("answered").status, 200);
            open
        })
        .collect();
    assert_eq!(idle.len(), 100);
}

#[test]
fn connections_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(&fixture::digits_bundle(folder.path()), &[]);
    let idle: Vec<Connection> = (0..3)
        .map(|_| {
            let mut open = Connection::open(server.address).expect("connected");
            assert_eq!(open.get("/livez").expect("answered").status, 200);
            open
        })
        .collect();
    let page = get(server.address, "/metrics").text();
    assert!(page.contains("\nemberline_connections 4\n"), "{page}");
    drop(idle);
}
