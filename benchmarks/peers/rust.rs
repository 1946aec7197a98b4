// The works of raw.cc with Rust's standard library: TcpStream, and BufReader for
// lines. harness.h says what the arguments are and what is printed.
use std::collections::HashMap;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

// What the standard library has no name for.
extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
    fn sched_setaffinity(pid: i32, size: usize, set: *const u64) -> i32;
}

const MONOTONIC: i32 = 1;
const PROCESS_CPU: i32 = 2;

fn clock(which: i32) -> i64 {
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    unsafe { clock_gettime(which, &mut time) };
    time.seconds * 1_000_000_000 + time.nanoseconds
}

fn now() -> i64 {
    clock(MONOTONIC)
}

fn pin(cpu: usize) {
    let mut set = [0u64; 16];
    set[cpu / 64] = 1 << (cpu % 64);
    unsafe { sched_setaffinity(0, std::mem::size_of_val(&set), set.as_ptr()) };
}

struct Arguments {
    values: HashMap<String, String>,
}

impl Arguments {
    fn number(&self, key: &str, otherwise: f64) -> f64 {
        self.values.get(key).map_or(otherwise, |text| text.parse().unwrap())
    }
    fn port(&self) -> u16 {
        self.number("port", 0.0) as u16
    }
    fn size(&self) -> usize {
        self.number("size", 32.0) as usize
    }
    fn count(&self) -> usize {
        self.number("count", 300.0) as usize
    }
    fn nanoseconds(&self) -> i64 {
        (self.number("seconds", 0.25) * 1e9) as i64
    }
    fn line(&self) -> Vec<u8> {
        let mut line = vec![b'x'; self.size() - 2];
        line.extend_from_slice(b"\r\n");
        line
    }
    fn batch(&self) -> usize {
        std::cmp::max(1, 65536 / self.size())
    }
}

fn print_result(ops: usize, ns: i64, cpu: i64, times: &[i64]) {
    let texts: Vec<String> = times.iter().map(|time| time.to_string()).collect();
    println!(
        "{{\"ops\": {}, \"ns\": {}, \"cpu_ns\": {}, \"times\": [{}]}}",
        ops,
        ns,
        cpu,
        texts.join(",")
    );
}

fn time_turns(arguments: &Arguments, mut turn: impl FnMut()) {
    for _ in 0..100 {
        turn();
    }
    let mut times = Vec::with_capacity(100_000);
    let cpu = clock(PROCESS_CPU);
    let start = now();
    let mut before = start;
    while before < start + arguments.nanoseconds() {
        turn();
        let after = now();
        times.push(after - before);
        before = after;
    }
    print_result(times.len(), now() - start, clock(PROCESS_CPU) - cpu, &times);
}

fn time_batches(arguments: &Arguments, ops: usize, mut some: impl FnMut()) {
    some();
    let mut done = 0;
    let cpu = clock(PROCESS_CPU);
    let start = now();
    while now() < start + arguments.nanoseconds() {
        some();
        done += ops;
    }
    print_result(done, now() - start, clock(PROCESS_CPU) - cpu, &[]);
}

fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("port {}", listener.local_addr().unwrap().port());
    listener
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn serve_lines() {
    let mut stream = accept(&listen());
    let mut reader = BufReader::with_capacity(65536, stream.try_clone().unwrap());
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if stream.write_all(&line).is_err() {
            return;
        }
    }
}

fn ask_lines(arguments: &Arguments) {
    let mut stream = connect(arguments.port());
    let mut reader = BufReader::with_capacity(65536, stream.try_clone().unwrap());
    let message = arguments.line();
    let mut line = Vec::new();
    time_turns(arguments, || {
        stream.write_all(&message).unwrap();
        line.clear();
        reader.read_until(b'\n', &mut line).unwrap();
    });
}

fn serve_structs(arguments: &Arguments) {
    let mut stream = accept(&listen());
    let mut data = vec![0u8; arguments.size()];
    while stream.read_exact(&mut data).is_ok() && stream.write_all(&data).is_ok() {}
}

fn ask_structs(arguments: &Arguments) {
    let mut stream = connect(arguments.port());
    let mut data = vec![0u8; arguments.size()];
    time_turns(arguments, || {
        stream.write_all(&data).unwrap();
        stream.read_exact(&mut data).unwrap();
    });
}

fn read_lines(arguments: &Arguments) {
    let mut reader = BufReader::with_capacity(65536, connect(arguments.port()));
    let mut line = Vec::new();
    let batch = arguments.batch();
    time_batches(arguments, batch, || {
        for _ in 0..batch {
            line.clear();
            reader.read_until(b'\n', &mut line).unwrap();
        }
    });
}

fn read_blocks(arguments: &Arguments) {
    let mut stream = connect(arguments.port());
    let mut data = vec![0u8; arguments.size()];
    time_batches(arguments, 1, || stream.read_exact(&mut data).unwrap());
}

fn write_batches(arguments: &Arguments) {
    let mut writer = BufWriter::with_capacity(65536, connect(arguments.port()));
    let line = arguments.line();
    let batch = arguments.batch();
    time_batches(arguments, batch, || {
        for _ in 0..batch {
            writer.write_all(&line).unwrap();
        }
        writer.flush().unwrap();
    });
}

fn write_each(arguments: &Arguments) {
    let mut stream = connect(arguments.port());
    let line = arguments.line();
    time_batches(arguments, 100, || {
        for _ in 0..100 {
            stream.write_all(&line).unwrap();
        }
    });
}

fn serve_connects() {
    let listener = listen();
    loop {
        accept(&listener);
    }
}

fn serve_turn_away() {
    let listener = listen();
    let _first = accept(&listener);
    loop {
        accept(&listener);
    }
}

fn serve_notice(arguments: &Arguments) {
    let listener = listen();
    let mut times = Vec::new();
    for _ in 0..arguments.count() {
        let mut stream = accept(&listener);
        stream.write_all(b"x").unwrap();
        let mut byte = [0u8; 1];
        let _ = stream.read(&mut byte);
        times.push(now());
    }
    print_result(times.len(), 0, 0, &times);
}

fn unblock(arguments: &Arguments) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let there = arguments.number("other_cpu", 1.0) as usize;
    pin(arguments.number("cpu", 0.0) as usize);
    let mut times = Vec::new();
    for _ in 0..arguments.count() {
        let mut here = connect(port);
        let _other = accept(&listener);
        let waking = here.try_clone().unwrap();
        let (told, woken) = mpsc::channel();
        let blocked = std::thread::spawn(move || {
            pin(there);
            let mut byte = [0u8; 1];
            let _ = here.read(&mut byte);
            told.send(now()).unwrap();
        });
        std::thread::sleep(Duration::from_micros(300));
        let start = now();
        waking.shutdown(Shutdown::Both).unwrap();
        blocked.join().unwrap();
        times.push(woken.recv().unwrap() - start);
    }
    print_result(times.len(), 0, 0, &times);
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let mut values = HashMap::new();
    for word in &words[4..] {
        let (key, value) = word.split_once('=').unwrap();
        values.insert(key.to_string(), value.to_string());
    }
    let arguments = Arguments { values };
    match (words[1].as_str(), words[2].as_str()) {
        ("server", "ping_pong") => serve_lines(),
        ("client", "ping_pong") => ask_lines(&arguments),
        ("server", "struct") => serve_structs(&arguments),
        ("client", "struct") => ask_structs(&arguments),
        ("client", "read") => read_lines(&arguments),
        ("client", "bulk") => read_blocks(&arguments),
        ("client", "write_batches") => write_batches(&arguments),
        ("client", "write_each") => write_each(&arguments),
        ("server", "connect") => serve_connects(),
        ("server", "turn_away") => serve_turn_away(),
        ("server", "notice") => serve_notice(&arguments),
        ("local", "unblock") => unblock(&arguments),
        _ => std::process::exit(3),
    }
}
