//! HTTP/1.1 as it is on the wire.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Sends bytes and reads the answer to its end: the head's lines, and the content.
pub fn exchange(address: &str, request: &str) -> (Vec<String>, String) {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(ANSWER_MAX)).expect("timeout");
    stream.write_all(request.as_bytes()).expect("send");
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        // The server closed without reading the whole request.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{request}: {error}"),
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = split(&answer, "\r\n\r\n");
    let head: Vec<String> = head.split("\r\n").map(str::to_owned).collect();
    let body = match head.iter().any(|line| line == "Transfer-Encoding: chunked") {
        true => join_chunks(body),
        false => body.to_owned(),
    };
    (head, body)
}

/// What a page says.
pub fn get(address: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let (head, body) = exchange(address, &request);
    assert_eq!(head[0], "HTTP/1.1 200 OK", "{path}");
    body
}

fn split<'a>(text: &'a str, at: &str) -> (&'a str, &'a str) {
    text.split_once(at).unwrap_or((text, ""))
}

/// The content of a chunked body.
fn join_chunks(mut body: &str) -> String {
    let mut content = String::new();
    loop {
        let (size, rest) = split(body, "\r\n");
        match usize::from_str_radix(size, 16)
            .ok()
            .and_then(|size| rest.split_at_checked(size))
        {
            Some((chunk, rest)) if !chunk.is_empty() => {
                content.push_str(chunk);
                body = rest.trim_start_matches("\r\n");
            }
            _ => return content,
        }
    }
}
