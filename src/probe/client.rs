//! A client for one kind of request: HTTP/1.1, one answer at a time, bounded, and nothing tried again.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest head of an answer.
const MOST_HEAD: usize = 16 << 10;
/// Longest body of an answer.
const MOST_BODY: usize = 1 << 20;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
    /// Bytes of its head.
    pub head: usize,
    /// Whether its connection takes no further request.
    pub closes: bool,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Whether the server has neither closed it nor said anything that nobody asked for.
    pub fn is_open(&self) -> bool {
        let answer = self.stream.try_read(&mut [0]);
        answer.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request and reads its answer.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        let mut read = Vec::with_capacity(4096);
        let end = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if read.len() > MOST_HEAD {
                return Err(malformed());
            }
            self.more(&mut read).await?;
        };
        let head = Head::parse(&read[..end]).ok_or_else(malformed)?;
        let mut body = read.split_off(end + 4);
        while body.len() < head.length {
            self.more(&mut body).await?;
        }
        Ok(Answer {
            status: head.status,
            head: end + 4,
            // What comes after an answer that nobody asked for is the answer to nothing.
            closes: head.closes || body.len() > head.length,
            body,
        })
    }

    async fn more(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        match self.stream.read_buf(into).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// What the head of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    length: usize,
    closes: bool,
}

impl Head {
    /// None when it is no head of HTTP/1.1, or says no length that fits.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let (mut length, mut closes) = (None, false);
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                let value: usize = value.parse().ok()?;
                if length.is_some_and(|length| length != value) {
                    return None;
                }
                length = Some(value);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return None;
            } else if name.eq_ignore_ascii_case("connection") {
                closes |= value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close"));
            }
        }
        let length = length.filter(|length| *length <= MOST_BODY)?;
        Some(Self { status, length, closes })
    }
}

fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// What kind of failure an error is, in a few words that do not differ from one request to the next.
pub fn class(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset".to_owned(),
        io::ErrorKind::UnexpectedEof => "connection closed before the answer".to_owned(),
        io::ErrorKind::InvalidData => "no HTTP/1.1 answer with a length".to_owned(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn a_head_says_status_length_and_whether_the_connection_ends() {
        let head = |text: &str| Head::parse(text.as_bytes());
        assert_eq!(
            head("HTTP/1.1 200 OK\r\nContent-Type: a\r\ncontent-length: 12"),
            Some(Head {
                status: 200,
                length: 12,
                closes: false
            })
        );
        let closed = head("HTTP/1.1 503 x\r\nConnection: keep-alive, Close\r\nContent-Length: 0").expect("a head");
        assert_eq!((closed.status, closed.closes), (503, true));
        for wrong in [
            "",
            "HTTP/1.0 200 OK\r\nContent-Length: 0",
            "HTTP/1.1 20",
            "HTTP/1.1 200 OK",
            "HTTP/1.1 200 OK\r\nContent-Length: -1",
            "HTTP/1.1 200 OK\r\nContent-Length: 9999999",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
            "HTTP/1.1 200 OK\r\nno header\r\nContent-Length: 0",
        ] {
            assert_eq!(head(wrong), None, "{wrong:?}");
        }
    }

    /// What a client makes of these bytes, after which the server closes.
    fn exchange(bytes: &'static [u8]) -> Result<Answer, String> {
        use std::io::{Read, Write};
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.read_exact(&mut [0; 1]).expect("its request");
            stream.write_all(bytes).expect("sent");
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let answer = runtime.expect("a runtime").block_on(async {
            let mut connection = Connection::open(address).await?;
            connection.exchange(b"?").await
        });
        server.join().expect("the server ran");
        answer.map_err(|error| class(&error))
    }

    #[test]
    fn an_answer_is_whole_or_a_failure() {
        let answer = exchange(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("an answer");
        assert_eq!(
            (answer.status, &answer.body[..], answer.closes),
            (200, &b"ok"[..], false)
        );
        let broken = "connection closed before the answer".to_owned();
        assert_eq!(exchange(b""), Err(broken.clone()));
        assert_eq!(exchange(b"HTTP/1.1 200 OK\r\nContent-"), Err(broken.clone()));
        assert_eq!(exchange(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"), Err(broken));
        assert_eq!(
            exchange(b"SSH-2.0\r\n\r\n"),
            Err("no HTTP/1.1 answer with a length".to_owned())
        );
    }
}
