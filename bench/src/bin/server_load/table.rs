//! The table of a well-behaved client: its results from a server that other clients attack.
//!
//! For each attack a server is started, attacked, and used by a client with another address (127.0.0.2), which requests
//! five stills a second, every other one from a video that was never opened before. Every still is compared with a
//! sequential decode. A response that does not arrive within 30 seconds, or has no still, is lost; one that takes more
//! than two seconds is late.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use bucket_streamer::Engine;
use bucket_streamer::pixels::{Fit, Shape};
use bucket_streamer::still::{StillMaker, StillOptions};
use tokio::time::{interval, sleep, timeout};

use crate::attacks::{Attack, Target};
use crate::expected::{Sum, sum};
use crate::raw;

/// The address of the well-behaved client.
const OWN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The interval of its requests.
const PERIOD: Duration = Duration::from_millis(200);
/// Its timeout for a response.
const LOST: Duration = Duration::from_secs(30);
/// A response that takes longer is late.
const LATE: Duration = Duration::from_secs(2);
/// Duration of an attack before the client's first request.
const BEFORE: Duration = Duration::from_millis(1500);
/// Width and quality of its stills.
const WIDTH: u32 = 640;
const QUALITY: u8 = 80;

/// The arguments.
struct Plan {
    program: PathBuf,
    clips: PathBuf,
    /// The clips of the client and of the attacks.
    clip: String,
    large: String,
    seconds: u32,
    only: Option<String>,
    /// Additional arguments for the server.
    server: Vec<String>,
}

impl Plan {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Plan, String> {
        let mut plan = Plan {
            program: PathBuf::new(),
            clips: PathBuf::new(),
            clip: "h264_edts.mp4".to_owned(),
            large: "hevc_4k60_10bit_dv81_hdr10.mp4".to_owned(),
            seconds: 12,
            only: None,
            server: Vec::new(),
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match &name[..] {
                "--server" => plan.program = value.into(),
                "--clips" => plan.clips = value.into(),
                "--clip" => plan.clip = value,
                "--large" => plan.large = value,
                "--seconds" => {
                    plan.seconds = value.parse().map_err(|_| format!("{value:?} is not a number of seconds"))?
                }
                "--only" => plan.only = Some(value),
                "--with" => plan.server.extend(value.split(' ').map(str::to_owned)),
                _ => return Err(format!("unknown option {name}")),
            }
        }
        if plan.program.as_os_str().is_empty() || plan.clips.as_os_str().is_empty() {
            return Err("give --server (the program) and --clips (the folder of clips)".to_owned());
        }
        Ok(plan)
    }
}

/// Prints the table. True if no still was wrong.
///
/// # Errors
/// The reason why the run cannot begin.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<bool, String> {
    let plan = Plan::read(arguments)?;
    if let Ok((_, most)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most);
    }
    let expected = expected(&plan.clips.join(&plan.clip)).map_err(|error| error.to_string())?;
    let large = Engine::new(Some(1)).open_path(plan.clips.join(&plan.large)).map_err(|error| error.to_string())?;
    let hostile = tempfile::tempdir().map_err(|error| error.to_string())?;
    let fresh = tempfile::tempdir().map_err(|error| error.to_string())?;
    write_fresh(&plan, fresh.path()).map_err(|error| error.to_string())?;
    write_hostile(&plan, hostile.path()).map_err(|error| error.to_string())?;
    let stalled = stalled().map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    println!("| attack | requests | lost | late | wrong | p50, ms | p95, ms | resident, MiB |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut is_well = true;
    let is_chosen = |attack: &Attack| plan.only.as_ref().is_none_or(|only| attack.name().contains(&only[..]));
    for attack in Attack::ALL.into_iter().filter(is_chosen) {
        let mut server = Server::start(&plan, (hostile.path(), fresh.path()), stalled)?;
        let target = Target {
            server: server.address,
            large: format!("clips/{}", plan.large),
            frames: large.frame_count() as u32,
            next: Arc::new(AtomicU32::new(0)),
        };
        let row = runtime.block_on(async {
            // The client's clip is open and warm before the attack.
            let _ = timeout(LOST, raw::get(target.server, OWN, &path(&plan, 0, 0))).await;
            let clients = attack.start(&target);
            sleep(BEFORE).await;
            let row = behave(&plan, target.server, &expected).await;
            drop(clients);
            row
        });
        println!("| {} | {} | {} |", attack.name(), row.text(), server.most_resident_mib());
        is_well &= row.wrong == 0;
    }
    Ok(is_well)
}

/// The results of the client's requests.
#[derive(Default)]
struct Row {
    lost: usize,
    late: usize,
    wrong: usize,
    ms: Vec<u128>,
}

impl Row {
    fn text(&self) -> String {
        let at = |share: f64| {
            let place = ((self.ms.len() as f64 * share) as usize).min(self.ms.len().saturating_sub(1));
            self.ms.get(place).map_or("-".to_owned(), u128::to_string)
        };
        let requested = self.lost + self.ms.len();
        format!("{requested} | {} | {} | {} | {} | {}", self.lost, self.late, self.wrong, at(0.5), at(0.95))
    }
}

/// A frame of its clip, or of a copy that is not open.
fn path(plan: &Plan, number: u32, frame: u32) -> String {
    let query = format!("frame={frame}&width={WIDTH}&quality={QUALITY}");
    if number.is_multiple_of(2) {
        format!("/frame/clips/{}?{query}", plan.clip)
    } else {
        format!("/frame/fresh/{number}.mp4?{query}")
    }
}

/// Makes five requests a second, whether or not responses arrive.
async fn behave(plan: &Plan, server: SocketAddr, expected: &[Sum]) -> Row {
    let mut ticks = interval(PERIOD);
    let mut requests = Vec::new();
    for number in 0..5 * plan.seconds {
        ticks.tick().await;
        let frame = number * 29 % expected.len() as u32;
        let (path, known) = (path(plan, number, frame), expected[frame as usize]);
        requests.push(tokio::spawn(async move {
            let since = Instant::now();
            let answer = timeout(LOST, raw::get(server, OWN, &path)).await.ok()?.ok()?;
            let is_right = answer.header("x-frame-index") == Some(&frame.to_string()) && sum(&answer.body) == known;
            (answer.status == 200).then_some((since.elapsed(), is_right))
        }));
    }
    let mut row = Row::default();
    for one in requests {
        match one.await.ok().flatten() {
            None => row.lost += 1,
            Some((took, is_right)) => {
                row.late += usize::from(took > LATE);
                row.wrong += usize::from(!is_right);
                row.ms.push(took.as_millis());
            }
        }
    }
    row.ms.sort_unstable();
    row
}

/// The stills of a clip from a sequential decode.
fn expected(clip: &Path) -> bucket_streamer::error::Result<Vec<Sum>> {
    let video = Engine::new(None).open_path(clip)?;
    let shape = Shape { width: Some(WIDTH), height: None, fit: Fit::Contain };
    let options = StillOptions { shape, quality: QUALITY, ..video.still_options() };
    let (mut maker, mut bytes, mut sums) = (StillMaker::new()?, Vec::new(), Vec::new());
    let mut failed = None;
    video.play(&mut |frame| match maker.encode(&frame.picture, &options, &mut bytes) {
        Ok(_) => {
            sums.push(sum(&bytes));
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(sums), Err)
}

/// Copies of the client's clip, one for each request.
fn write_fresh(plan: &Plan, folder: &Path) -> std::io::Result<()> {
    let numbers = (0..5 * plan.seconds).filter(|number| number % 2 == 1);
    let mut copies = numbers.map(|number| folder.join(format!("{number}.mp4")));
    copies.try_for_each(|copy| std::fs::copy(plan.clips.join(&plan.clip), copy).map(drop))
}

/// Files that take much time or memory.
fn write_hostile(plan: &Plan, folder: &Path) -> std::io::Result<()> {
    let large = std::fs::read(plan.clips.join(&plan.large))?;
    let vp9 = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/vp9.ivf");
    let vp9 = std::fs::read(vp9)?;
    for number in 0..8 {
        // Damage at many places: decoding restarts again and again, in the end from the first sample.
        let mut slow = large.clone();
        for place in 1..40 {
            let at = slow.len() * (2 * place + 1) / 90 + number;
            slow[at..at + 24].fill(0xa5);
        }
        std::fs::write(folder.join(format!("slow{number}.mp4")), slow)?;
        std::fs::write(folder.join(format!("bomb{number}.ivf")), bomb(vp9.clone(), 8192 - number * 8))?;
    }
    Ok(())
}

/// VP9 in IVF whose key frames claim to be `width` pixels wide and half as high: within the limits, but much larger
/// than the data.
fn bomb(mut file: Vec<u8>, width: usize) -> Vec<u8> {
    let mut at = 32;
    while let Some(head) = file.get(at..at + 12) {
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let frame = at + 12;
        // Profile 0, shown, a key frame: then the sync code, 4 bits of colour, and the size (VP9 specification, 6.2).
        if file.get(frame + 1..frame + 4) == Some(&[0x49, 0x83, 0x42]) {
            let size = ((width - 1) as u64) << 16 | (width / 2 - 1) as u64;
            for bit in 0..32 {
                let (byte, mask) = (frame + (36 + bit) / 8, 0x80 >> ((36 + bit) % 8));
                let is_set = size >> (31 - bit) & 1 == 1;
                file[byte] = if is_set { file[byte] | mask } else { file[byte] & !mask };
            }
        }
        at = frame + len;
    }
    file
}

/// A web server that begins every response, and continues with one byte a second.
fn stalled() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let _ = stream.read(&mut [0; 4096]);
                let head = "HTTP/1.1 206 Partial Content\r\nContent-Length: 65536\r\nContent-Range: bytes 0-65535/9999999\r\n\r\n";
                let mut sent = stream.write_all(head.as_bytes());
                while sent.is_ok() {
                    sent = stream.write_all(&[0]);
                    std::thread::sleep(Duration::from_secs(1));
                }
            });
        }
    });
    Ok(address)
}

/// A server in its own process.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(plan: &Plan, (hostile, fresh): (&Path, &Path), stalled: SocketAddr) -> Result<Server, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", plan.program.display());
        let roots = [
            format!("clips={}", plan.clips.display()),
            format!("hostile={}", hostile.display()),
            format!("fresh={}", fresh.display()),
            format!("stalled=http://{stalled}/"),
        ];
        let mut command = Command::new(&plan.program);
        command.args(["serve", "--listen-addr", "127.0.0.1:0", "--still-memory", "0", "--log", "error"]);
        roots.iter().for_each(|root| _ = command.args(["--root", root]));
        let mut child = command.args(&plan.server).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let mut line = String::new();
        let read = child.stdout.take().map(|output| BufReader::new(output).read_line(&mut line));
        let address = line.trim().rsplit('/').next().and_then(|address| address.parse().ok());
        match (read, address) {
            (Some(Ok(_)), Some(address)) => Ok(Server { child, address }),
            _ => {
                let _ = child.kill();
                Err(format!("{} does not say where it listens: {line:?}", plan.program.display()))
            }
        }
    }

    /// The peak of its resident memory.
    fn most_resident_mib(&mut self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        kib.map_or("ended".to_owned(), |kib| (kib / 1024).to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
