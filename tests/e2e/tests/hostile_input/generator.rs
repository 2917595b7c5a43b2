//! Calls that are wrong: for each route and each kind of wrong as many as are asked for, the same for the same seed.

use fastrand::Rng;
use serde_json::{Value, json};
use sterna_executor::migration::order::MigrationId;
use sterna_executor::node::api::StreamId;
use sterna_executor::node::server::routes::{Carries, ROUTES, Route};

use super::genuine::Genuine;

/// One call.
#[derive(Debug)]
pub struct Call {
    /// What is wrong with it.
    pub what: String,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// Whether it may be answered as if it were right: it asks only, or undoes what there is none of.
    pub void: bool,
    /// Whether what is sent is no HTTP, so that the connection may be closed without an answer.
    pub garbled: bool,
}

/// In which way a call is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Method,
    Segment,
    ContentType,
    Empty,
    Random,
    Cut,
    Flipped,
    Nested,
    Huge,
    Doubled,
    TooLarge,
    Token,
    Replaced,
    Overreach,
    Chunks,
    Short,
    Frames,
    Query,
    Headers,
}

const KINDS: [Wrong; 19] = [
    Wrong::Method,
    Wrong::Segment,
    Wrong::ContentType,
    Wrong::Empty,
    Wrong::Random,
    Wrong::Cut,
    Wrong::Flipped,
    Wrong::Nested,
    Wrong::Huge,
    Wrong::Doubled,
    Wrong::TooLarge,
    Wrong::Token,
    Wrong::Replaced,
    Wrong::Overreach,
    Wrong::Chunks,
    Wrong::Short,
    Wrong::Frames,
    Wrong::Query,
    Wrong::Headers,
];

const METHODS: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get"];

/// Segments and queries that lead elsewhere if somebody believes them.
const ELSEWHERE: [&str; 14] = [
    "..",
    "../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e",
    "%00",
    "%ff%fe",
    "a%0d%0aHost:%20b",
    "%c0%ae%c0%ae",
    "ticker%3fforce=1",
    "..%2Fcontainers%2Fticker",
    "..%5c..%5c",
    ".",
    "%25%32%65",
    "00000000-0000-0000-0000-000000000000",
];

/// A request in the making.
struct Request {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    /// Announced length, where another than the body's.
    length: Option<String>,
}

impl Request {
    fn bytes(&self) -> Vec<u8> {
        let mut out =
            format!("{} {} HTTP/1.1\r\nHost: a1.node.sterna\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        let length =
            self.length.clone().unwrap_or_else(|| format!("Content-Length: {}\r\n", self.body.len()));
        out.extend_from_slice(length.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

/// Makes calls.
pub struct Generator<'a> {
    genuine: &'a Genuine,
    random: Rng,
}

impl<'a> Generator<'a> {
    /// The same calls for the same seed.
    pub fn new(genuine: &'a Genuine, seed: u64) -> Self {
        Self { genuine, random: Rng::with_seed(seed) }
    }

    /// The `number`th call of a route.
    pub fn call(&mut self, route: &Route, number: usize) -> Call {
        let kind = KINDS[number % KINDS.len()];
        let mut garbled = false;
        let document = self.genuine.document(route.method, route.path);
        let written = if document.is_null() { Vec::new() } else { document.to_string().into_bytes() };
        let mut request = Request {
            method: route.method.to_owned(),
            target: self.path(route),
            headers: vec![("Content-Type".to_owned(), b"application/json".to_vec())],
            body: written.clone(),
            length: None,
        };
        match kind {
            Wrong::Method => request.method = self.other_method(route),
            Wrong::Segment => request.target = self.elsewhere(route),
            Wrong::ContentType => request.headers[0].1 = self.content_type(),
            Wrong::Empty => request.body.clear(),
            Wrong::Random => request.body = self.noise(4096),
            Wrong::Cut => request.body.truncate(self.random.usize(..written.len().max(1))),
            Wrong::Flipped => self.flip(&mut request.body),
            Wrong::Nested => {
                let open = self.random.choice(["[", "{\"a\":", "[{\"order\":"]).unwrap_or("[");
                request.body = open.repeat(100_000 / open.len()).into_bytes();
            }
            Wrong::Huge => request.body = self.huge(&document),
            Wrong::Doubled => request.body = doubled(&document),
            Wrong::TooLarge => request.body = vec![b' '; (257 << 10) + self.random.usize(..1 << 20)],
            Wrong::Token => self.token(&mut request),
            Wrong::Replaced => request.body = self.replaced(document).to_string().into_bytes(),
            Wrong::Overreach => request.body = self.overreach(route).unwrap_or_else(|| self.noise(64)),
            Wrong::Chunks => {
                garbled = true;
                request.length = Some("Transfer-Encoding: chunked\r\n".to_owned());
                let sizes = [
                    "ffffffffffffffffff\r\n",
                    "-1\r\nx",
                    "zz\r\n",
                    "5\r\nabcdefgh\r\n",
                    "\r\n",
                    "3;a=\"\r\nabc\r\n0\r\n\r\n",
                ];
                request.body = self.random.choice(sizes).unwrap_or_default().as_bytes().to_vec();
            }
            Wrong::Short => {
                garbled = true;
                let lengths = [
                    "Content-Length: 5\r\nContent-Length: 6\r\n",
                    "Content-Length: -5\r\n",
                    "Content-Length: 99999999999999999999\r\n",
                ];
                request.length = self.random.choice(lengths).map(str::to_owned);
            }
            Wrong::Frames => request.body = self.frames(),
            Wrong::Query => request.target = format!("{}?{}", request.target, self.query()),
            Wrong::Headers => self.headers(&mut request),
        }
        // What only asks has no effect. A body that nobody reads spoils nothing, and neither does giving up what is not there.
        // Nor is anybody frozen who would wait for a front.
        let asks = request.method == "GET"
            || matches!(route.path, "/v1/arrivals/check" | "/v1/traffic/held" | "/v1/probes" | "/v1/peers");
        // A service of which there is none, or a stream that never came.
        let gives_up = request.method == "DELETE"
            && (route.path == "/v1/arrivals/{id}" || route.path.contains("{stream}"));
        // The engine takes an archive of nothing.
        let nothing = request.method == "PUT" && route.path == "/v1/images" && request.body.is_empty();
        let what = format!("{} {}: {kind:?} ({number})", route.method, route.path);
        Call { what, bytes: request.bytes(), void: asks || gives_up || nothing, garbled }
    }

    fn id(&mut self) -> String {
        // What is held is called about as often as what is not known.
        if self.random.bool() {
            self.genuine.held.order.id.to_string()
        } else {
            MigrationId::new().to_string()
        }
    }

    fn path(&mut self, route: &Route) -> String {
        let id = self.id();
        route
            .path
            .replace("{id}", &id)
            .replace("{name}", "nobody-data")
            .replace("{stream}", &StreamId::new().to_string())
    }

    fn other_method(&mut self, route: &Route) -> String {
        let taken = |method: &str| ROUTES.iter().any(|one| one.path == route.path && one.method == method);
        let free: Vec<&str> = METHODS.into_iter().filter(|method| !taken(method)).collect();
        self.random.choice(free).unwrap_or("PATCH").to_owned()
    }

    fn elsewhere(&mut self, route: &Route) -> String {
        let long = "a".repeat(1 << 16);
        let segment = match self.random.usize(..10) {
            0 => long.as_str(),
            1 => &long[..3000],
            _ => self.random.choice(ELSEWHERE).unwrap_or(".."),
        };
        if route.path.contains('{') {
            route.path.replace("{id}", segment).replace("{name}", segment).replace("{stream}", segment)
        } else {
            format!("{}/{segment}", route.path)
        }
    }

    fn content_type(&mut self) -> Vec<u8> {
        let types: [&[u8]; 6] =
            [b"text/plain", b"", b"application/xml", b"multipart/form-data", b"application/json\xff", b"*/*"];
        self.random.choice(types).unwrap_or_default().to_vec()
    }

    fn noise(&mut self, most: usize) -> Vec<u8> {
        let length = self.random.usize(1..most);
        std::iter::repeat_with(|| self.random.u8(..)).take(length).collect()
    }

    fn flip(&mut self, body: &mut [u8]) {
        if body.is_empty() {
            return;
        }
        for _ in 0..self.random.usize(1..8) {
            let at = self.random.usize(..body.len());
            body[at] ^= self.random.u8(1..);
        }
    }

    fn huge(&mut self, document: &Value) -> Vec<u8> {
        let values = [
            json!(u64::MAX),
            json!(i64::MIN),
            json!(1e300),
            json!("x".repeat(200_000)),
            json!(vec![0; 50_000]),
        ];
        let value = self.random.choice(values).unwrap_or_default();
        self.put(document.clone(), &value).to_string().into_bytes()
    }

    fn replaced(&mut self, document: Value) -> Value {
        let values = [
            json!(null),
            json!([]),
            json!({}),
            json!(-1),
            json!(true),
            json!(""),
            json!("\u{0}\u{202e}../"),
            json!(0.5),
        ];
        let value = self.random.choice(values).unwrap_or_default();
        self.put(document, &value)
    }

    /// A document with a value in the place of another one, anywhere.
    fn put(&mut self, mut document: Value, value: &Value) -> Value {
        self.put_into(&mut document, value);
        document
    }

    fn put_into(&mut self, place: &mut Value, value: &Value) {
        let (deeper, at) = (self.random.u8(..4) > 0, self.random.usize(..));
        let inner = match place {
            Value::Object(all) if deeper && !all.is_empty() => {
                let at = at % all.len();
                all.values_mut().nth(at)
            }
            Value::Array(all) if deeper && !all.is_empty() => {
                let at = at % all.len();
                all.get_mut(at)
            }
            _ => None,
        };
        match inner {
            Some(inner) => self.put_into(inner, value),
            None => *place = value.clone(),
        }
    }

    fn overreach(&mut self, route: &Route) -> Option<Vec<u8>> {
        let all = match (route.method, route.path) {
            ("POST", "/v1/arrivals") => self.genuine.overreaching(),
            ("POST", "/v1/arrivals/check") => {
                let facts = &self.genuine.facts;
                self.genuine.overreaching().into_iter().map(|one| json!([one, facts])).collect()
            }
            ("POST", path) if path.ends_with("/release") || path.ends_with("/start-anew") => {
                self.genuine.forgeries()
            }
            _ => return None,
        };
        Some(self.random.choice(all)?.to_string().into_bytes())
    }

    fn token(&mut self, request: &mut Request) {
        let other = "fedcba9876543210".repeat(4).into_bytes();
        let tokens =
            [Vec::new(), other, vec![b'x'; 8000], b"\xff\xfe".to_vec(), b"0123456789abcdef".to_vec()];
        if let Some(token) = self.random.choice(tokens) {
            request.headers.push(("sterna-token".to_owned(), token));
        }
    }

    fn frames(&mut self) -> Vec<u8> {
        let mut body = match self.random.usize(..4) {
            0 => u32::MAX.to_le_bytes().to_vec(),
            1 => (1_u32 << 20).to_le_bytes().to_vec(),
            2 => 0_u32.to_le_bytes().to_vec(),
            _ => self.random.u32(..200).to_le_bytes().to_vec(),
        };
        body.extend(self.noise(2000));
        body
    }

    fn query(&mut self) -> String {
        let long = format!("image={}", "a".repeat(5000));
        let queries = [
            "image=../events?",
            "image=..%2Fevents%3F",
            "image=..%2F..%2Fcontainers%2Fjson",
            "image=",
            "image=%ff",
            "image=a&image=b",
            "services=ticker",
            "services=..%2Fticker,",
            "after=..",
            "after=00000000-0000-0000-0000-000000000000",
            "why=%00%0a",
            "why",
            "&&&==",
            &long,
        ];
        self.random.choice(queries).unwrap_or_default().to_owned()
    }

    fn headers(&mut self, request: &mut Request) {
        match self.random.usize(..5) {
            0 => request.headers.extend((0..200).map(|at| (format!("x-{at}"), b"y".to_vec()))),
            1 => request.headers.push(("x".to_owned(), vec![b'y'; 100_000])),
            2 => request.headers.push(("Host".to_owned(), b"elsewhere".to_vec())),
            3 => request.headers.push(("Upgrade".to_owned(), b"h2c".to_vec())),
            _ => request.headers.push(("Content-Encoding".to_owned(), b"gzip, gzip".to_vec())),
        }
    }
}

/// Every field of the outermost object twice.
fn doubled(document: &Value) -> Vec<u8> {
    let text = document.to_string();
    match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(inner) if !inner.is_empty() => format!("{{{inner},{inner}}}").into_bytes(),
        _ => b"{\"a\":1,\"a\":2}".to_vec(),
    }
}

/// A call of a route whose body never comes to its end.
pub fn stalled(genuine: &Genuine, route: &Route) -> Call {
    let path = route
        .path
        .replace("{id}", &genuine.held.order.id.to_string())
        .replace("{name}", "nobody-data")
        .replace("{stream}", &StreamId::new().to_string());
    let mut request = Request {
        method: route.method.to_owned(),
        target: path,
        headers: vec![("Content-Type".to_owned(), b"application/json".to_vec())],
        body: b"2\r\n[1\r\n".to_vec(),
        length: Some("Transfer-Encoding: chunked\r\n".to_owned()),
    };
    if route.carries == Carries::Stream {
        request.headers.push(("sterna-token".to_owned(), genuine.held.token.clone().into_bytes()));
    }
    let what = format!("{} {}: stalls", route.method, route.path);
    Call { what, bytes: request.bytes(), void: route.method == "GET", garbled: false }
}
