//! `sterna run` with a collector of spans on loopback.

#![cfg(feature = "otlp")]
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

/// Takes one request; gives its first line, and its body.
fn take(mut stream: TcpStream) -> (String, Vec<u8>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_lowercase());
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    (head.swap_remove(0), body)
}

#[test]
fn what_a_run_did_is_sent_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = listener.local_addr().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "inventory.toml",
        "schema_version = 1\nname = \"one\"\n[[site]]\nname = \"near\"\ntier = \"edge\"\nregion = \"eu\"\n\
         price = { node = \"0.50USD/h\" }\npower = { idle = \"5W\", full = \"20W\" }\n\
         [[site.node]]\nname = \"near-1\"\ncpu = \"2cores\"\nmemory = \"4GiB\"\nagent = \"127.0.0.1:1\"\n\
         [[service]]\nname = \"shop\"\ncpu = \"0.5\"\nmemory = \"256MiB\"\n",
    );
    write(
        "policy.toml",
        "schema_version = 1\nname = \"cheap\"\n[objective]\n[[objective.term]]\nmetric = \"cost_rate\"\n",
    );
    write(
        "sterna.toml",
        &format!(
            "inventory = \"inventory.toml\"\npolicy = \"policy.toml\"\nstate = \"state\"\nlisten = \"127.0.0.1:0\"\n\
             [traces]\nendpoint = \"http://{collector}\"\n"
        ),
    );
    let took = std::thread::spawn(move || take(listener.accept().unwrap().0));
    let out = Command::new(env!("CARGO_BIN_EXE_sterna"))
        .current_dir(folder.path())
        .args(["run", "--once", "--config", "sterna.toml"])
        // What is logged is no measure for what is sent.
        .env("STERNA_LOG", "error")
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{err}");
    // Where nothing was sent, nobody waits for it for ever.
    drop(TcpStream::connect(collector));
    let (line, body) = took.join().unwrap();
    assert_eq!(line, "post /v1/traces http/1.1");
    for name in ["cycle", "agents", "observe", "decide"] {
        assert!(body.windows(name.len()).any(|part| part == name.as_bytes()), "no span `{name}`; {err}");
    }
}
