//! A proxy between the engine and an HTTP server that cuts, delays and answers in the server's place.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is done to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Answer with this status and S3 code; the server never sees the request.
    Answer(u16, &'static str),
    /// Pass the request on, then cut the connection in place of the answer.
    CutAnswer,
    /// Cut the connection after so many bytes of the request.
    CutRequest(usize),
    /// Answer late.
    Delay(Duration),
}

/// A proxy on a loopback port.
pub struct Proxy {
    /// Its address, `http://127.0.0.1:port`.
    pub address: String,
    troubles: Arc<Mutex<Vec<(usize, Trouble)>>>,
    seen: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts a proxy in front of `target` (`host:port`).
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { address: format!("http://{}", listener.local_addr().unwrap()), troubles: Arc::default(), seen: Arc::default() };
        let (troubles, seen, target) = (proxy.troubles.clone(), proxy.seen.clone(), target.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (troubles, seen, target) = (troubles.clone(), seen.clone(), target.clone());
                tokio::spawn(async move {
                    // A broken connection is what this proxy is for.
                    drop(pass(client, &target, &troubles, &seen).await);
                });
            }
        });
        proxy
    }

    /// Troubles the n-th write from now on (PUT, POST or DELETE; 0 is the next one).
    pub fn trouble(&self, nth_write: usize, trouble: Trouble) {
        self.troubles.lock().unwrap().push((self.seen.load(Ordering::SeqCst) + nth_write, trouble));
    }

    /// True when every trouble has happened.
    pub fn is_spent(&self) -> bool {
        self.troubles.lock().unwrap().is_empty()
    }
}

/// Serves one connection, one request after the other.
async fn pass(mut client: TcpStream, target: &str, troubles: &Mutex<Vec<(usize, Trouble)>>, seen: &AtomicUsize) -> std::io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    loop {
        let Some((head, body)) = read_message(&mut client).await? else { return Ok(()) };
        let is_write = [&b"PUT "[..], b"POST ", b"DELETE "].iter().any(|method| head.starts_with(method));
        let trouble = if is_write {
            let number = seen.fetch_add(1, Ordering::SeqCst);
            let mut troubles = troubles.lock().unwrap();
            troubles.iter().position(|(at, _)| *at == number).map(|at| troubles.remove(at).1)
        } else {
            None
        };
        match trouble {
            Some(Trouble::Answer(status, code)) => {
                let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>injected</Message></Error>");
                let answer =
                    format!("HTTP/1.1 {status} Injected\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                client.write_all(answer.as_bytes()).await?;
                continue;
            }
            Some(Trouble::CutRequest(bytes)) => {
                let whole = [head.as_slice(), &body].concat();
                server.write_all(&whole[..bytes.min(whole.len())]).await?;
                return Ok(());
            }
            _ => {}
        }
        server.write_all(&head).await?;
        server.write_all(&body).await?;
        let Some((answer, content)) = read_answer(&mut server, head.starts_with(b"HEAD ")).await? else { return Ok(()) };
        match trouble {
            Some(Trouble::CutAnswer) => return Ok(()),
            Some(Trouble::Delay(delay)) => tokio::time::sleep(delay).await,
            _ => {}
        }
        client.write_all(&answer).await?;
        client.write_all(&content).await?;
    }
}

async fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(head))
}

fn header(head: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")).map(|value| value.trim().to_owned()))
}

async fn read_message(stream: &mut TcpStream) -> std::io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let Some(head) = read_head(stream).await? else { return Ok(None) };
    let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some((head, body)))
}

async fn read_answer(stream: &mut TcpStream, to_head: bool) -> std::io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let Some(head) = read_head(stream).await? else { return Ok(None) };
    let has_no_body = to_head || head.starts_with(b"HTTP/1.1 204") || head.starts_with(b"HTTP/1.1 304");
    if has_no_body {
        return Ok(Some((head, Vec::new())));
    }
    if header(&head, "transfer-encoding").as_deref() == Some("chunked") {
        let mut body = Vec::new();
        while !body.ends_with(b"0\r\n\r\n") {
            body.push(stream.read_u8().await?);
        }
        return Ok(Some((head, body)));
    }
    let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some((head, body)))
}
