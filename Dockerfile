# bucket-streamer in a container: `docker build -t bucket-streamer .`, then
# `docker run --read-only -p 3000:3000 -v "$PWD/videos:/data:ro" bucket-streamer`. docs/serving.md tells the rest, and
# scripts/try-image runs this file where there is no Docker.
#
# The versions below name the images; who wants the very same bytes each time names their digests, too:
# `--build-arg RUST_IMAGE=rust:1.95.0-slim-bookworm@sha256:...`, as `docker buildx imagetools inspect` prints them.
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm
ARG DEBIAN_IMAGE=debian:12.12-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /src
# Where the results of the C builds are kept.
ENV BUCKET_STREAMER_CACHE=/c-cache

COPY scripts/install-deps scripts/install-deps
RUN scripts/install-deps && rm -rf /var/lib/apt/lists/*

# FFmpeg and dav1d: minutes, and a layer of their own. It is made anew when the pins, the recipe, or the packages that the
# workspace depends on change, and not when its code does. What stands in for that code is replaced below, but for `testing`,
# which only tests use. An image has no tests and no benches: Cargo would miss those that a manifest names, and the programs
# of `bench`, whose stand-in is a library alone.
COPY Cargo.toml Cargo.lock ./
COPY engine/Cargo.toml engine/Cargo.toml
COPY server/Cargo.toml server/Cargo.toml
COPY bench/Cargo.toml bench/Cargo.toml
COPY testing/Cargo.toml testing/Cargo.toml
COPY ffi/Cargo.toml ffi/Cargo.toml
COPY scripts/vendor scripts/vendor
COPY vendor vendor
RUN for member in engine server bench testing ffi; do \
        mkdir -p "$member/src" && touch "$member/src/lib.rs" \
        && sed -i '/^\[\[\(bin\|test\|bench\|example\)\]\]/,/^$/d' "$member/Cargo.toml" || exit 1; \
    done \
    && sed -i '/^\[\[\(test\|bench\|example\)\]\]/,/^$/d' Cargo.toml \
    && mkdir -p src \
    && echo 'fn main() {}' | tee src/main.rs build.rs > ffi/build.rs \
    && scripts/vendor build
# Their licences go with the program.
RUN mkdir -p /licences \
    && for source in $(scripts/vendor fetch); do \
        for text in COPYING COPYING.LGPLv2.1 LICENSE.md; do \
            if [ -f "$source/$text" ]; then cp "$source/$text" "/licences/$(basename "$source")-$text"; fi; \
        done; \
    done

# What the program depends on, and the border with C.
COPY ffi ffi
RUN touch ffi/build.rs ffi/src/lib.rs && cargo build --release --locked

# The program, without its debugging information. The manifests are whole again: once more without what is not here. A file
# from outside may be older than its stand-in: Cargo would take it for known.
COPY . .
# What `--version` says: --build-arg COMMIT="$(git log -1 --format='%h of %cs')".
ARG COMMIT=
RUN for manifest in Cargo.toml engine/Cargo.toml server/Cargo.toml bench/Cargo.toml testing/Cargo.toml ffi/Cargo.toml; do \
        sed -i '/^\[\[\(test\|bench\|example\)\]\]/,/^$/d' "$manifest" || exit 1; \
    done \
    && touch build.rs src/main.rs engine/src/lib.rs server/src/lib.rs bench/src/lib.rs \
    && BUCKET_STREAMER_COMMIT="$COMMIT" scripts/release /shipped

FROM ${DEBIAN_IMAGE}
# The certificates that stores are believed by; no package, and nothing that runs, comes with them.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Videos go to /data: the root without a name is ./data below /. Where it is empty there are bundled clips to look at.
RUN groupadd --gid 10001 streamer \
    && useradd --uid 10001 --gid streamer --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin streamer \
    && mkdir /data
COPY LICENSE-APACHE LICENSE-MIT LICENSING.md /usr/share/doc/bucket-streamer/
COPY --from=build /licences /usr/share/doc/bucket-streamer/
COPY deploy/healthcheck /usr/local/bin/healthcheck
COPY --from=build /shipped/bucket-streamer /usr/local/bin/bucket-streamer
WORKDIR /
# A number, so that orchestrators can tell that it is not root.
USER 10001:10001
# In the environment and not in CMD, so that `docker run bucket-streamer serve --root ...` is heard from outside, too, and
# that `-e` can say another one.
ENV BUCKET_STREAMER_LISTEN_ADDR=0.0.0.0:3000
EXPOSE 3000
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s --retries=3 CMD ["healthcheck"]
ENTRYPOINT ["bucket-streamer"]
CMD ["serve"]
# Last, so that a new commit makes no other layer old: --build-arg REVISION=$(git rev-parse HEAD).
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bucket-streamer" \
      org.opencontainers.image.description="Any frame of any video in a bucket, exact, now" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
