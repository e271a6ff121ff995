//! `serve`: runs a server with settings from flags, the environment and a file; `sign`: signs addresses for it.
//!
//! A flag takes precedence over the environment, and the environment over the file.

use std::net::SocketAddr;
use std::sync::Arc;

use bucket_streamer::quantities::MemorySize;
use bucket_streamer::source::remote::HttpOptions;
use bucket_streamer::{DEFAULT_INDEX_MEMORY, Machine};
use bucket_streamer_server::Server;
use tokio::signal::unix::{SignalKind, signal};

use crate::console::{CommandOutcome, say};
use crate::opening::{builder, index_cache, open_device};
use crate::options::{RemoteArguments, VideoLimitOptions};

mod arguments;
mod settings;
mod sign;

pub(crate) use arguments::ServeArguments;
pub(crate) use sign::{SignArguments, sign};

use arguments::from_file;

/// Memory for the indexes of open videos: the default of a `Catalog`.
const INDEX_MEMORY: u64 = 512 << 20;

pub(crate) fn run(arguments: ServeArguments, remote: &RemoteArguments) -> CommandOutcome {
    let refuse = |why: String| {
        say(&format!("bucket-streamer: {why}"));
        CommandOutcome::Usage
    };
    let file = match arguments.config.as_deref().map(from_file).transpose() {
        Ok(file) => file.unwrap_or_default(),
        Err(why) => return refuse(why),
    };
    let arguments = arguments.with_lists().or(file);
    let config = match arguments.log().and_then(|()| arguments.config()) {
        Ok(config) => config,
        Err(why) => return refuse(why),
    };
    let roots = match arguments.roots(remote) {
        Ok(roots) => Arc::new(roots),
        Err(why) => return refuse(why),
    };
    // External memory: it grows outside the engine, which must not free anything because of it.
    let fetched = remote.fetch_memory.map_or(HttpOptions::default().cache, |MemorySize(bytes)| bytes);
    let machine = Machine::read();
    let external_memory = config.still_memory + config.reply_memory + machine.memory_share(8, INDEX_MEMORY) + fetched;
    let device = match open_device(arguments.device.unwrap_or_default()) {
        Ok(device) => device,
        Err(outcome) => return outcome,
    };
    // Each request sets the handling of damaged frames, so the engine outputs all of them.
    let limits = VideoLimitOptions {
        max_pixels: arguments.max_pixels.unwrap_or_default(),
        picture_memory: arguments.picture_memory,
        index_memory: arguments.index_memory.unwrap_or(MemorySize(DEFAULT_INDEX_MEMORY)),
    };
    let check_hashes = arguments.check_hashes.unwrap_or_default();
    let builder = builder(arguments.threads, arguments.checkpoint_memory, limits).check_hashes(check_hashes);
    // After its deadline a request has no use for the video.
    let open_timeout = remote.open_timeout.unwrap_or(config.deadline);
    let builder = builder.open_timeout(Some(open_timeout).filter(|timeout| !timeout.is_zero())).device(device);
    let engine = builder.external_memory(external_memory).on_device_note(|note| tracing::warn!(note)).build();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.worker_threads(machine.processors()).thread_name("serve").enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(format!("cannot start the server's threads: {error}")),
    };
    let outcome = runtime.block_on(async {
        let (is_secure, requested) = (config.tls.is_some(), config.connections);
        let resources = crate::process_setup::resource_summary(&machine, &engine);
        let server = match Server::bind(config, engine, roots, index_cache().cloned()).await {
            Ok(server) => server,
            Err(error) => return refuse(format!("cannot serve: {error}")),
        };
        tracing::info!("{resources}: {}", crate::process_setup::open_file_shares(server.connections(), requested));
        announce(server.address(), is_secure);
        let end = async {
            termination_requested().await;
            // A second signal ends the program at once.
            tokio::spawn(async {
                termination_requested().await;
                std::process::exit(1);
            });
        };
        if server.run(end).await { CommandOutcome::Done } else { CommandOutcome::SomeFailed }
    });
    // The shutdown does not wait for decode runs, which no request needs any more.
    runtime.shutdown_background();
    outcome
}

/// Announces the address to operators, and to programs that requested any free port.
fn announce(address: SocketAddr, is_secure: bool) {
    use std::io::Write;
    let scheme = if is_secure { "https" } else { "http" };
    // A write error is ignored: a caller that closes the pipe knows the address.
    let _ = writeln!(std::io::stdout().lock(), "listening on {scheme}://{address}");
    let _ = std::io::stdout().lock().flush();
    tracing::info!(%address, "listening");
}

/// Waits for SIGTERM (from orchestrators) or SIGINT (from a terminal).
async fn termination_requested() {
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt()].map(|kind| signal(kind).ok());
    let [terminate, interrupt] = &mut signals;
    let next = async |signal: &mut Option<tokio::signal::unix::Signal>| match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    };
    tokio::select! {
        () = next(terminate) => {}
        () = next(interrupt) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bucket_streamer::OnDamage;
    use bucket_streamer::quantities::PixelCount;

    use super::arguments::{Period, ServeArguments};

    #[test]
    fn a_flag_takes_precedence_over_the_file() {
        let file: ServeArguments = toml::from_str(
            "listen_addr = \"0.0.0.0:80\"\nroot = [\"a=/a\"]\nlocal_path = \"/videos\"\ndeadline = \"5s\"\n\
             still_memory = \"1G\"\njpeg_quality = 70\non_damage = \"error\"\nmax_pixels = 1000000\n\
             picture_memory = \"768M\"\n",
        )
        .unwrap();
        let typed = ServeArguments { jpeg_quality: Some(90), s3_bucket: Some("b".into()), ..ServeArguments::default() };
        let both = typed.or(file);
        let config = both.config().unwrap();
        assert_eq!((config.jpeg_quality, config.still_memory, config.listen.port()), (90, 1 << 30, 80));
        assert_eq!((config.deadline, both.root.len(), both.local_path.is_some()), (Duration::from_secs(5), 1, false));
        assert_eq!((config.on_damage, both.max_pixels), (OnDamage::Error, Some(PixelCount(1_000_000))));
        assert_eq!(both.picture_memory.map(|size| size.0), Some(768 << 20));
        let text: ServeArguments = toml::from_str("max_pixels = \"4096x2160\"").unwrap();
        assert_eq!(text.max_pixels, Some(PixelCount(4096 * 2160)));
        for wrong in ["lisen_addr = \"x\"", "on_damage = \"ignore\"", "max_pixels = 0", "max_pixels = \"many\""] {
            assert!(toml::from_str::<ServeArguments>(wrong).is_err(), "{wrong}");
        }
        assert!("0s".parse::<Period>().is_err() && "25h".parse::<Period>().is_err() && "1m".parse::<Period>().is_ok());
    }

    #[test]
    fn tokens_and_keys_in_the_file_can_have_scopes() {
        let file: ServeArguments = toml::from_str(
            "token = [\"for everything\"]\n\
             [[tokens]]\ntoken = \"of customer a\"\nname = \"a\"\nroots = [\"cams\"]\nprefixes = [\"films/a/\"]\n\
             [[tokens]]\ntoken = \"for all, too\"\n\
             [[url_keys]]\nkey = \"key of a...\"\nprefixes = [\"films/a\"]\n",
        )
        .unwrap();
        let typed = ServeArguments { token: vec!["typed token".into()], ..ServeArguments::default() };
        let config = typed.or(file).config().unwrap();
        let tokens: Vec<_> = config.tokens.iter().map(|one| (&one.secret[..], one.scope.is_all())).collect();
        assert_eq!(tokens, [("typed token", true), ("of customer a", false), ("for all, too", true)]);
        assert_eq!(config.tokens[1].name.as_deref(), Some("a"));
        assert_eq!((config.tokens[1].scope.roots.len(), config.tokens[1].scope.prefixes.len()), (1, 1));
        assert_eq!((&config.url_keys[0].secret[..], config.url_keys[0].scope.is_all()), ("key of a...", false));
    }

    #[test]
    fn contradictory_settings_are_refused() {
        let tls = ServeArguments { tls_cert: Some("x".into()), ..ServeArguments::default() };
        assert!(tls.config().is_err());
        let token = ServeArguments { token: vec!["short".into()], ..ServeArguments::default() };
        assert!(token.config().is_err());
        for wrong in
            ["token = \"short\"", "token = \"long enough\"\nroots = []", "token = \"long enough\"\nroot = [\"a\"]"]
        {
            let file = toml::from_str::<ServeArguments>(&format!("[[tokens]]\n{wrong}\n"));
            assert!(file.map_or(true, |file| ServeArguments::default().or(file).config().is_err()), "{wrong}");
        }
        let both =
            ServeArguments { local_path: Some("x".into()), s3_bucket: Some("b".into()), ..ServeArguments::default() };
        assert!(both.unnamed().is_err());
    }
}
