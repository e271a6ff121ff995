//! An attack: damaged videos of one root try to expose decoder memory that contained pictures of another root's videos.
//! Their pictures must equal those from a process that never decoded the other videos.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use bucket_streamer::still::{StillFormat, StillMaker, StillOptions};
use bucket_streamer::{Engine, EngineBuilder};
use bucket_streamer_server::Config;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::socket::{SocketEvent, TestSocket};
use crate::test_server::{TestServer, config};
use testing::damage::{ContainerForm, DamageKind, DamagedClip, IntactClip, damage_repeatedly, open, resized};

/// Fixtures that begin with pictures of noise, and a smaller clip of the same codec and bit depth.
const CLIPS: [(&str, &str); 5] = [
    ("hevc_slices.mp4", "hevc_size_change.265"),
    ("hevc_slices_10bit.mp4", "hevc_10bit.mp4"),
    ("h264_slices.mp4", "h264_fields.h264"),
    ("vp9_tiles.ivf", "vp9.ivf"),
    ("av1_tiles.ivf", "av1_forward_key.ivf"),
];
/// The number of noise pictures at their beginning.
const NOISE: usize = 4;
/// The size of their pictures, and a smaller one.
const SIZE: (u64, u64) = (320, 192);
const SMALL: (u64, u64) = (240, 144);
/// The number of frames requested of each attacker, and the quality of those in JPEG.
const FRAMES: usize = 12;
const QUALITY: u8 = 95;

/// Luma of a picture.
struct GreyImage {
    width: usize,
    samples: Vec<f32>,
}

/// Side of the compared squares in pixels, and the correlation from which on two squares count as equal.
const SIDE: usize = 16;
const ALIKE: f32 = 0.8;
/// Standard deviation of luma below which a square is too flat to be compared.
const CONTRAST: f32 = 8.0;

impl GreyImage {
    fn of(bytes: &[u8]) -> GreyImage {
        let (width, rgb) = if bytes.starts_with(&[0xff, 0xd8]) {
            let image = turbojpeg::decompress(bytes, turbojpeg::PixelFormat::RGB).expect("a JPEG");
            let rows = image.pixels.chunks(image.pitch).flat_map(|row| &row[..3 * image.width]);
            (image.width, rows.copied().collect())
        } else {
            let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().expect("a PNG");
            let mut rgb = vec![0; reader.output_buffer_size().expect("a size")];
            let info = reader.next_frame(&mut rgb).expect("a whole PNG");
            assert_eq!(info.color_type, png::ColorType::Rgb);
            (info.width as usize, rgb)
        };
        let luma =
            |pixel: &[u8; 3]| 0.299 * f32::from(pixel[0]) + 0.587 * f32::from(pixel[1]) + 0.114 * f32::from(pixel[2]);
        GreyImage { width, samples: rgb.as_chunks::<3>().0.iter().map(luma).collect() }
    }

    /// The samples of a square less their mean, and the root of the sum of their squares.
    fn square(&self, x: usize, y: usize) -> (Vec<f32>, f32) {
        let rows = (y..y + SIDE).flat_map(|y| &self.samples[y * self.width + x..][..SIDE]);
        let mut square: Vec<f32> = rows.copied().collect();
        let mean = square.iter().sum::<f32>() / square.len() as f32;
        square.iter_mut().for_each(|sample| *sample -= mean);
        let norm = square.iter().map(|sample| sample * sample).sum::<f32>().sqrt();
        (square, norm)
    }

    /// Squares with the content of the other picture at the same place, in any colours.
    fn squares_of(&self, other: &GreyImage) -> usize {
        let (width, height) = (self.width.min(other.width), self.height().min(other.height()));
        let places = (0..height / SIDE).flat_map(|y| (0..width / SIDE).map(move |x| (SIDE * x, SIDE * y)));
        let is_alike = |&(x, y): &(usize, usize)| {
            let ((one, norm), (two, other_norm)) = (self.square(x, y), other.square(x, y));
            let product: f32 = one.iter().zip(&two).map(|(one, two)| one * two).sum();
            norm.min(other_norm) > CONTRAST * SIDE as f32 && product > ALIKE * norm * other_norm
        };
        places.filter(is_alike).count()
    }

    fn height(&self) -> usize {
        self.samples.len() / self.width
    }
}

/// A frame's result in a process that never decoded the other videos.
struct IsolatedResult {
    png: Vec<u8>,
    jpeg: Vec<u8>,
    is_corrupt: bool,
}

/// A damaged clip, and its results from a process of its own.
struct Attacker {
    clip: DamagedClip,
    /// The victim of the same codec.
    victim: usize,
    count: usize,
    /// The frames that can be shown.
    isolated: HashMap<usize, IsolatedResult>,
}

/// Environment variables of [`stills_of_one_clip`]: the clip, the format and number of frames, and the folder of the
/// stills.
const CLIP: &str = "BUCKET_STREAMER_TEST_CLIP";
const FORMAT: &str = "BUCKET_STREAMER_TEST_FORMAT";
const COUNT: &str = "BUCKET_STREAMER_TEST_COUNT";
const FOLDER: &str = "BUCKET_STREAMER_TEST_FOLDER";

/// The first frames of a clip and their flags, from a process that has decoded nothing else.
fn stills(clip: &Path, format: StillFormat, count: usize) -> HashMap<usize, (Vec<u8>, bool)> {
    let folder = tempfile::tempdir().expect("a folder");
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "two_roots::stills_of_one_clip", "--ignored", "--test-threads", "1"])
        .env(CLIP, clip)
        .env(FORMAT, format.name())
        .env(COUNT, count.to_string())
        .env(FOLDER, folder.path())
        .output()
        .expect("to start");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let still = |frame: usize| {
        let made = |flag: &str| std::fs::read(folder.path().join(format!("{frame}-{flag}"))).ok();
        Some((frame, made("sound").map(|bytes| (bytes, false)).or_else(|| made("corrupt").map(|bytes| (bytes, true)))?))
    };
    (0..count).filter_map(still).collect()
}

/// Not a test: the child process of [`stills`].
#[test]
#[ignore = "run by others, in a process of its own"]
fn stills_of_one_clip() {
    let said = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} says nothing"));
    let (clip, folder) = (said(CLIP), said(FOLDER));
    let count: u32 = said(COUNT).parse().expect("a number");
    let format = if said(FORMAT) == StillFormat::Png.name() { StillFormat::Png } else { StillFormat::Jpeg };
    let video = Engine::builder().build().open_path(clip).expect("a video");
    let options = StillOptions { format, quality: QUALITY, ..video.still_options() };
    let (mut maker, mut bytes) = (StillMaker::new().expect("memory"), Vec::new());
    for (index, frame) in video.frames(&(0..count).collect::<Vec<_>>()) {
        let Ok(frame) = frame else { continue };
        if maker.encode(&frame.picture, &options, &mut bytes).is_ok() {
            let flag = if frame.is_corrupt() { "corrupt" } else { "sound" };
            std::fs::write(Path::new(&folder).join(format!("{index}-{flag}")), &bytes).expect("to write a still");
        }
    }
}

impl Attacker {
    fn new(clip: DamagedClip, victim: usize, folder: &Path) -> Option<Attacker> {
        let path = folder.join(&clip.name);
        std::fs::write(&path, &clip.bytes).expect("to write a clip");
        let count = open(&Engine::new(Some(1)), &clip.name, &clip.bytes).ok()?.frame_count().min(FRAMES);
        let mut jpegs = stills(&path, StillFormat::Jpeg, count);
        let stills = stills(&path, StillFormat::Png, count).into_iter().map(|(frame, (png, is_corrupt))| {
            let (jpeg, _) = jpegs.remove(&frame).expect("a still in both formats");
            (frame, IsolatedResult { png, jpeg, is_corrupt })
        });
        Some(Attacker { isolated: stills.collect(), clip, victim, count })
    }

    /// Whether all of its pictures are certainly damaged: parts of each are missing.
    fn is_damaged_everywhere(&self) -> bool {
        matches!(self.clip.kind, DamageKind::SliceMissing | DamageKind::SecondFirst)
    }
}

/// Damaged copies of a clip, and of a smaller one that claims the size of the clip.
fn attackers(rest: &IntactClip, smaller: &str) -> Vec<DamagedClip> {
    // If most slices are cut, that counts as a property of the encoder and not as damage.
    let kinds = [
        (DamageKind::SliceMissing, 1),
        (DamageKind::SecondFirst, 1),
        (DamageKind::TileOverwritten, 1),
        (DamageKind::SliceCut, 3),
    ];
    let mut all: Vec<DamagedClip> =
        kinds.into_iter().filter_map(|(kind, every)| damage_repeatedly(rest, kind, every, 1)).collect();
    all.extend(resized(&raw(smaller), SIZE));
    all.extend(resized(rest, SMALL));
    all
}

/// A fixture in a container in which access units may change their length.
fn raw(name: &str) -> IntactClip {
    let clip = IntactClip::fixture(name);
    if clip.form == ContainerForm::InPlace { clip.annex_b().expect("a raw stream") } else { clip }
}

/// Two folders: videos of noise, and attackers.
struct AttackSetup {
    victims: tempfile::TempDir,
    attack: tempfile::TempDir,
    names: Vec<String>,
    attackers: Vec<Attacker>,
}

impl AttackSetup {
    fn new() -> AttackSetup {
        let (victims, attack) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut names, mut attackers_of_all) = (Vec::new(), Vec::new());
        for (name, smaller) in CLIPS {
            let clip = raw(name);
            let noise = clip.part(0..NOISE).expect("the noise");
            let rest = clip.part(NOISE..clip.samples.len()).expect("the rest");
            for damaged in attackers(&rest, smaller) {
                attackers_of_all.extend(Attacker::new(damaged, names.len(), attack.path()));
            }
            std::fs::write(victims.path().join(&noise.name), &noise.bytes).expect("to write a clip");
            names.push(noise.name);
        }
        AttackSetup { victims, attack, names, attackers: attackers_of_all }
    }

    async fn serve(&self, config: Config, engine: EngineBuilder) -> TestServer {
        let roots = [("victims", self.victims.path()), ("attack", self.attack.path())];
        TestServer::serving(engine.build(), config, &roots).await
    }

    /// The victims' pictures.
    async fn noise(&self, server: &TestServer) -> Vec<Vec<GreyImage>> {
        let mut noise = Vec::new();
        for name in &self.names {
            let mut pictures = Vec::new();
            for frame in 0..NOISE {
                let response = server.get(&format!("/frame/victims/{name}?frame={frame}&format=png")).await;
                assert_eq!(response.status(), StatusCode::OK, "{name}");
                pictures.push(GreyImage::of(&response.bytes().await.unwrap()));
            }
            noise.push(pictures);
        }
        noise
    }

    /// Requests the victims' frames, each time in another size, until the attack ends.
    async fn request_victims(&self, server: &TestServer, is_over: &AtomicBool) -> usize {
        let mut watched = 0;
        while !is_over.load(Relaxed) {
            for name in &self.names {
                let requests = (0..NOISE).map(|frame| {
                    let path = format!("/frame/victims/{name}?frame={frame}&width={}", 32 + watched % 256);
                    async move { server.get(&path).await }
                });
                for response in futures_util::future::join_all(requests).await {
                    assert_eq!(response.status(), StatusCode::OK, "{name}");
                    drop(response.bytes().await.unwrap());
                }
                watched += NOISE;
            }
        }
        watched
    }
}

/// Counts answers and records wrong ones.
struct AnswerChecker<'a> {
    noise: &'a [Vec<GreyImage>],
    answers: AtomicUsize,
    foreign: AtomicUsize,
    wrong: std::sync::Mutex<Vec<String>>,
    /// The first storyboard by address: every further one has to be equal.
    first_answers: std::sync::Mutex<HashMap<String, Vec<u8>>>,
}

impl AnswerChecker<'_> {
    fn report(&self, wrong: String) {
        self.wrong.lock().unwrap().push(wrong);
    }

    /// Checks an answer with a picture: it must equal `expected` if that is known, otherwise earlier answers.
    fn check(&self, attacker: &Attacker, what: &str, bytes: &[u8], expected: Option<&[u8]>) {
        self.answers.fetch_add(1, Relaxed);
        let name = &attacker.clip.name;
        let shown = GreyImage::of(bytes);
        let squares: usize = self.noise[attacker.victim].iter().map(|noise| shown.squares_of(noise)).sum();
        if squares > 0 {
            self.foreign.fetch_add(1, Relaxed);
            self.report(format!("{name}: {what}: {squares} squares of the other video"));
        }
        let mut first_answers = self.first_answers.lock().unwrap();
        let before =
            first_answers.entry(format!("{name} {what}")).or_insert_with(|| expected.unwrap_or(bytes).to_vec());
        if before != bytes {
            self.report(format!("{name}: {what}: other bytes than in another process, or than before"));
        }
    }

    fn check_flag(&self, attacker: &Attacker, frame: usize, what: &str, is_flagged: bool) {
        let is_corrupt = attacker.isolated.get(&frame).is_some_and(|alone| alone.is_corrupt);
        if is_flagged != is_corrupt || (attacker.is_damaged_everywhere() && !is_flagged) {
            self.report(format!("{}: {what}: flagged: {is_flagged}, alone: {is_corrupt}", attacker.clip.name));
        }
    }
}

/// All frames of an attacker as PNG, then once more with damage refused.
async fn request_frames(server: &TestServer, attacker: &Attacker, checker: &AnswerChecker<'_>) {
    for frame in 0..attacker.count {
        let path = format!("/frame/attack/{}?frame={frame}&format=png", attacker.clip.name);
        let what = format!("frame {frame} as PNG");
        let response = server.get(&path).await;
        let is_flagged = response.headers().contains_key("x-frame-corrupt");
        match (response.status(), attacker.isolated.get(&frame)) {
            (StatusCode::OK, Some(alone)) => {
                checker.check(attacker, &what, &response.bytes().await.unwrap(), Some(&alone.png));
                checker.check_flag(attacker, frame, &what, is_flagged);
            }
            (StatusCode::UNPROCESSABLE_ENTITY, None) => (),
            (status, alone) => checker.report(format!("{path}: {status}; alone: {}", alone.is_some())),
        }
        let refusing = server.get(&format!("{path}&on-damage=error")).await.status();
        let is_sound = attacker.isolated.get(&frame).is_some_and(|alone| !alone.is_corrupt);
        let expected = if is_sound { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
        if refusing != expected {
            checker.report(format!("{path}&on-damage=error: {refusing}, not {expected}"));
        }
    }
}

/// All frames of an attacker over a WebSocket.
async fn request_over_websocket(server: &TestServer, attacker: &Attacker, checker: &AnswerChecker<'_>) {
    let mut line = TestSocket::connect(server).await;
    line.set_video(&format!("attack/{}", attacker.clip.name)).await;
    let frames: Vec<Value> = (0..attacker.count).map(|frame| json!({"frame": frame})).collect();
    line.send(json!({"type": "RequestFrames", "quality": QUALITY, "frames": frames})).await;
    for frame in 0..attacker.count {
        let what = format!("frame {frame} over a WebSocket");
        match (line.receive().await, attacker.isolated.get(&frame)) {
            (SocketEvent::Frame(message, bytes), Some(alone)) => {
                checker.check(attacker, &what, &bytes, Some(&alone.jpeg));
                checker.check_flag(attacker, frame, &what, message["corrupt"] == true);
            }
            (SocketEvent::Message(message), None) => assert_eq!(message["error"], "decode_failed", "{message}"),
            (said, _) => checker.report(format!("{}: {what}: {said:?}", attacker.clip.name)),
        }
    }
}

/// Storyboards of an attacker: tiles of its pictures' size in one column, so that each has their width.
async fn request_storyboards(server: &TestServer, attacker: &Attacker, checker: &AnswerChecker<'_>) {
    for mode in ["exact", "keyframe"] {
        let query = format!("count=1&columns=1&width=320&quality={QUALITY}&mode={mode}");
        let path = format!("/storyboard/attack/{}.jpg?{query}", attacker.clip.name);
        let response = server.get(&path).await;
        let is_flagged = response.headers().contains_key("x-frame-corrupt");
        match response.status() {
            StatusCode::OK => {
                checker.check(attacker, &format!("storyboard, {mode}"), &response.bytes().await.unwrap(), None);
                let refusing = server.get(&format!("{path}&on-damage=error")).await.status();
                if (refusing == StatusCode::UNPROCESSABLE_ENTITY) != is_flagged {
                    checker.report(format!("{path}: flagged: {is_flagged}; refused with {refusing}"));
                }
            }
            StatusCode::UNPROCESSABLE_ENTITY => (),
            status => checker.report(format!("{path}: {status}")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_contain_nothing_of_another_root() {
    let roots = tokio::task::spawn_blocking(AttackSetup::new).await.unwrap();
    // With the default settings; and with several threads, without checkpoints and caches.
    let servers = [
        roots.serve(config(), Engine::builder()).await,
        roots.serve(Config { still_memory: 0, ..config() }, Engine::builder().threads(4).checkpoint_memory(0)).await,
    ];
    let noise = roots.noise(&servers[0]).await;
    assert!(noise.iter().flatten().all(|picture| picture.squares_of(picture) > 200), "the judge knows the noise");
    let checker = AnswerChecker {
        noise: &noise,
        answers: AtomicUsize::new(0),
        foreign: AtomicUsize::new(0),
        wrong: Default::default(),
        first_answers: Default::default(),
    };
    for server in servers.iter().chain(&servers[1..]) {
        let is_over = AtomicBool::new(false);
        let attack = async {
            for attacker in &roots.attackers {
                request_frames(server, attacker, &checker).await;
                request_over_websocket(server, attacker, &checker).await;
                request_storyboards(server, attacker, &checker).await;
            }
            is_over.store(true, Relaxed);
        };
        let (watched, ()) = futures_util::future::join(roots.request_victims(server, &is_over), attack).await;
        assert!(watched > 100, "{watched} frames of the victims");
    }
    let (answers, foreign, wrong) =
        (checker.answers.into_inner(), checker.foreign.into_inner(), checker.wrong.into_inner().unwrap());
    assert!(answers > 1000, "{answers} answers");
    assert!(
        wrong.is_empty(),
        "{answers} answers, foreign pixels in {foreign}; wrong in {} ways: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(60)]
    );
}
