//! An attack: videos of one root try to show memory of decoders that contained pictures of a video of another root.
//! They must show what they show in a process that never had the other video, and nothing of that one.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use bucket_streamer::still::{StillFormat, StillMaker, StillOptions};
use bucket_streamer::{Engine, EngineBuilder};
use bucket_streamer_server::Config;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::house::{House, config};
use crate::socket::{Line, Said};
use testing::damage::{Clip, Damaged, Form, Kind, often, open, resized};

/// Fixtures that begin with pictures of noise, and a smaller clip of the same codec and bit depth.
const CLIPS: [(&str, &str); 5] = [
    ("hevc_slices.mp4", "hevc_size_change.265"),
    ("hevc_slices_10bit.mp4", "hevc_10bit.mp4"),
    ("h264_slices.mp4", "h264_fields.h264"),
    ("vp9_tiles.ivf", "vp9.ivf"),
    ("av1_tiles.ivf", "av1_forward_key.ivf"),
];
/// Pictures of noise in them.
const NOISE: usize = 4;
/// The size of their pictures in memory, and a smaller one.
const SIZE: (u64, u64) = (320, 192);
const SMALL: (u64, u64) = (240, 144);
/// Frames requested of an attacker, and the quality of those in JPEG.
const FRAMES: usize = 12;
const QUALITY: u8 = 95;

/// Luma of a picture.
struct Grey {
    width: usize,
    samples: Vec<f32>,
}

/// Side of the compared squares, and the correlation from which on two count as equal.
const SIDE: usize = 16;
const ALIKE: f32 = 0.8;
/// Standard deviation of luma below which a square resembles nothing.
const CONTRAST: f32 = 8.0;

impl Grey {
    fn of(bytes: &[u8]) -> Grey {
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
        Grey { width, samples: rgb.as_chunks::<3>().0.iter().map(luma).collect() }
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
    fn squares_of(&self, other: &Grey) -> usize {
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

/// A frame's result in a process that never had the other video.
struct Alone {
    png: Vec<u8>,
    jpeg: Vec<u8>,
    is_corrupt: bool,
}

/// A damaged clip, and its results in a process of its own.
struct Attacker {
    clip: Damaged,
    /// The victim of the same codec.
    victim: usize,
    count: usize,
    /// The frames that can be shown.
    alone: HashMap<usize, Alone>,
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

/// No test: the child process of [`stills`].
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
    fn new(clip: Damaged, victim: usize, folder: &Path) -> Option<Attacker> {
        let path = folder.join(&clip.name);
        std::fs::write(&path, &clip.bytes).expect("to write a clip");
        let count = open(&Engine::new(Some(1)), &clip.name, &clip.bytes).ok()?.frame_count().min(FRAMES);
        let mut jpegs = stills(&path, StillFormat::Jpeg, count);
        let stills = stills(&path, StillFormat::Png, count).into_iter().map(|(frame, (png, is_corrupt))| {
            let (jpeg, _) = jpegs.remove(&frame).expect("a still in both formats");
            (frame, Alone { png, jpeg, is_corrupt })
        });
        Some(Attacker { alone: stills.collect(), clip, victim, count })
    }

    /// Whether all of its pictures are certainly damaged: parts of each are missing.
    fn is_damaged_everywhere(&self) -> bool {
        matches!(self.clip.kind, Kind::SliceMissing | Kind::SecondFirst)
    }
}

/// Damaged copies of a clip, and of a smaller one that claims the size of the clip.
fn attackers(rest: &Clip, smaller: &str) -> Vec<Damaged> {
    // If most slices are cut, that counts as the encoder's way of ending them.
    let kinds = [(Kind::SliceMissing, 1), (Kind::SecondFirst, 1), (Kind::TileOverwritten, 1), (Kind::SliceCut, 3)];
    let mut all: Vec<Damaged> = kinds.into_iter().filter_map(|(kind, every)| often(rest, kind, every, 1)).collect();
    all.extend(resized(&raw(smaller), SIZE));
    all.extend(resized(rest, SMALL));
    all
}

/// A fixture in a container in which access units may change their length.
fn raw(name: &str) -> Clip {
    let clip = Clip::fixture(name);
    if clip.form == Form::InPlace { clip.annex_b().expect("a raw stream") } else { clip }
}

/// Two folders: videos of noise, and attackers.
struct Roots {
    victims: tempfile::TempDir,
    attack: tempfile::TempDir,
    names: Vec<String>,
    attackers: Vec<Attacker>,
}

impl Roots {
    fn new() -> Roots {
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
        Roots { victims, attack, names, attackers: attackers_of_all }
    }

    async fn served(&self, config: Config, engine: EngineBuilder) -> House {
        let roots = [("victims", self.victims.path()), ("attack", self.attack.path())];
        House::serving(engine.build(), config, &roots).await
    }

    /// The victims' pictures.
    async fn noise(&self, house: &House) -> Vec<Vec<Grey>> {
        let mut noise = Vec::new();
        for name in &self.names {
            let mut pictures = Vec::new();
            for frame in 0..NOISE {
                let response = house.get(&format!("/frame/victims/{name}?frame={frame}&format=png")).await;
                assert_eq!(response.status(), StatusCode::OK, "{name}");
                pictures.push(Grey::of(&response.bytes().await.unwrap()));
            }
            noise.push(pictures);
        }
        noise
    }

    /// Requests the victims' frames, each time in another size, until the attack is over.
    async fn be_watched(&self, house: &House, is_over: &AtomicBool) -> usize {
        let mut watched = 0;
        while !is_over.load(Relaxed) {
            for name in &self.names {
                let asked = (0..NOISE).map(|frame| {
                    let path = format!("/frame/victims/{name}?frame={frame}&width={}", 32 + watched % 256);
                    async move { house.get(&path).await }
                });
                for response in futures_util::future::join_all(asked).await {
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
struct Judge<'a> {
    noise: &'a [Vec<Grey>],
    answers: AtomicUsize,
    foreign: AtomicUsize,
    wrong: std::sync::Mutex<Vec<String>>,
    /// Storyboards: each must be answered the same every time.
    seen: std::sync::Mutex<HashMap<String, Vec<u8>>>,
}

impl Judge<'_> {
    fn tell(&self, wrong: String) {
        self.wrong.lock().unwrap().push(wrong);
    }

    /// Checks an answer with a picture: it must equal `expected` if that is known, otherwise earlier answers.
    fn judge(&self, attacker: &Attacker, what: &str, bytes: &[u8], expected: Option<&[u8]>) {
        self.answers.fetch_add(1, Relaxed);
        let name = &attacker.clip.name;
        let shown = Grey::of(bytes);
        let squares: usize = self.noise[attacker.victim].iter().map(|noise| shown.squares_of(noise)).sum();
        if squares > 0 {
            self.foreign.fetch_add(1, Relaxed);
            self.tell(format!("{name}: {what}: {squares} squares of the other video"));
        }
        let mut seen = self.seen.lock().unwrap();
        let before = seen.entry(format!("{name} {what}")).or_insert_with(|| expected.unwrap_or(bytes).to_vec());
        if before != bytes {
            self.tell(format!("{name}: {what}: other bytes than in another process, or than before"));
        }
    }

    fn judge_flag(&self, attacker: &Attacker, frame: usize, what: &str, is_flagged: bool) {
        let is_corrupt = attacker.alone.get(&frame).is_some_and(|alone| alone.is_corrupt);
        if is_flagged != is_corrupt || (attacker.is_damaged_everywhere() && !is_flagged) {
            self.tell(format!("{}: {what}: flagged: {is_flagged}, alone: {is_corrupt}", attacker.clip.name));
        }
    }
}

/// All frames of an attacker as PNG, then once more with damage refused.
async fn ask_for_frames(house: &House, attacker: &Attacker, judge: &Judge<'_>) {
    for frame in 0..attacker.count {
        let path = format!("/frame/attack/{}?frame={frame}&format=png", attacker.clip.name);
        let what = format!("frame {frame} as PNG");
        let response = house.get(&path).await;
        let is_flagged = response.headers().contains_key("x-frame-corrupt");
        match (response.status(), attacker.alone.get(&frame)) {
            (StatusCode::OK, Some(alone)) => {
                judge.judge(attacker, &what, &response.bytes().await.unwrap(), Some(&alone.png));
                judge.judge_flag(attacker, frame, &what, is_flagged);
            }
            (StatusCode::UNPROCESSABLE_ENTITY, None) => (),
            (status, alone) => judge.tell(format!("{path}: {status}; alone: {}", alone.is_some())),
        }
        let refusing = house.get(&format!("{path}&on-damage=error")).await.status();
        let is_sound = attacker.alone.get(&frame).is_some_and(|alone| !alone.is_corrupt);
        let expected = if is_sound { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
        if refusing != expected {
            judge.tell(format!("{path}&on-damage=error: {refusing}, not {expected}"));
        }
    }
}

/// All frames of an attacker over a WebSocket.
async fn ask_over_a_websocket(house: &House, attacker: &Attacker, judge: &Judge<'_>) {
    let mut line = Line::to(house).await;
    line.set(&format!("attack/{}", attacker.clip.name)).await;
    let frames: Vec<Value> = (0..attacker.count).map(|frame| json!({"frame": frame})).collect();
    line.say(json!({"type": "RequestFrames", "quality": QUALITY, "frames": frames})).await;
    for frame in 0..attacker.count {
        let what = format!("frame {frame} over a WebSocket");
        match (line.hear().await, attacker.alone.get(&frame)) {
            (Said::Frame(message, bytes), Some(alone)) => {
                judge.judge(attacker, &what, &bytes, Some(&alone.jpeg));
                judge.judge_flag(attacker, frame, &what, message["corrupt"] == true);
            }
            (Said::Message(message), None) => assert_eq!(message["error"], "decode_failed", "{message}"),
            (said, _) => judge.tell(format!("{}: {what}: {said:?}", attacker.clip.name)),
        }
    }
}

/// Storyboards of an attacker: tiles of its pictures' size in one column, so that each has their width.
async fn ask_for_storyboards(house: &House, attacker: &Attacker, judge: &Judge<'_>) {
    for mode in ["exact", "keyframe"] {
        let query = format!("count=1&columns=1&width=320&quality={QUALITY}&mode={mode}");
        let path = format!("/storyboard/attack/{}.jpg?{query}", attacker.clip.name);
        let response = house.get(&path).await;
        let is_flagged = response.headers().contains_key("x-frame-corrupt");
        match response.status() {
            StatusCode::OK => {
                judge.judge(attacker, &format!("storyboard, {mode}"), &response.bytes().await.unwrap(), None);
                let refusing = house.get(&format!("{path}&on-damage=error")).await.status();
                if (refusing == StatusCode::UNPROCESSABLE_ENTITY) != is_flagged {
                    judge.tell(format!("{path}: flagged: {is_flagged}; refused with {refusing}"));
                }
            }
            StatusCode::UNPROCESSABLE_ENTITY => (),
            status => judge.tell(format!("{path}: {status}")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_one_root_shows_in_answers_of_another() {
    let roots = tokio::task::spawn_blocking(Roots::new).await.unwrap();
    // With the default settings; and with several threads, without checkpoints and caches.
    let servers = [
        roots.served(config(), Engine::builder()).await,
        roots.served(Config { still_memory: 0, ..config() }, Engine::builder().threads(4).checkpoint_memory(0)).await,
    ];
    let noise = roots.noise(&servers[0]).await;
    assert!(noise.iter().flatten().all(|picture| picture.squares_of(picture) > 200), "the judge knows the noise");
    let judge = Judge {
        noise: &noise,
        answers: AtomicUsize::new(0),
        foreign: AtomicUsize::new(0),
        wrong: Default::default(),
        seen: Default::default(),
    };
    for house in servers.iter().chain(&servers[1..]) {
        let is_over = AtomicBool::new(false);
        let attack = async {
            for attacker in &roots.attackers {
                ask_for_frames(house, attacker, &judge).await;
                ask_over_a_websocket(house, attacker, &judge).await;
                ask_for_storyboards(house, attacker, &judge).await;
            }
            is_over.store(true, Relaxed);
        };
        let (watched, ()) = futures_util::future::join(roots.be_watched(house, &is_over), attack).await;
        assert!(watched > 100, "{watched} frames of the victims");
    }
    let (answers, foreign, wrong) =
        (judge.answers.into_inner(), judge.foreign.into_inner(), judge.wrong.into_inner().unwrap());
    assert!(answers > 1000, "{answers} answers");
    assert!(
        wrong.is_empty(),
        "{answers} answers, foreign pixels in {foreign}; wrong in {} ways: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(60)]
    );
}
