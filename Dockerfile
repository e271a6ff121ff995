# bucket-streamer in a container: `docker build -t bucket-streamer .`, then `docker run --read-only -p 3000:3000 -v
# "$PWD/videos:/data:ro" bucket-streamer`. docs/serving.md has the details, and scripts/try-image runs this file without
# Docker.
#
# The versions below name the images. For reproducible images, name their digests too: `--build-arg
# RUST_IMAGE=rust:1.95.0-slim-bookworm@sha256:...`, as `docker buildx imagetools inspect` prints them.
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm
ARG DEBIAN_IMAGE=debian:12.12-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /src
# The cache of the C builds.
ENV BUCKET_STREAMER_CACHE=/c-cache

COPY scripts/install-deps scripts/install-deps
RUN scripts/install-deps && rm -rf /var/lib/apt/lists/*

# FFmpeg and dav1d: minutes, in a layer of their own. It is rebuilt when the pins, the recipe, or the workspace's
# dependencies change, and not when its code does. Stand-ins of that code are replaced below, except for `testing`,
# which only tests use. The image has no tests and no benches, of which Cargo would miss those that a manifest names,
# nor the programs of `bench`, whose stand-in is a library alone.
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
# Their licences are distributed with the program.
RUN mkdir -p /licences \
    && for source in $(scripts/vendor fetch); do \
        for text in COPYING COPYING.LGPLv2.1 LICENSE.md; do \
            if [ -f "$source/$text" ]; then cp "$source/$text" "/licences/$(basename "$source")-$text"; fi; \
        done; \
    done

# The program's dependencies, and the C bindings.
COPY ffi ffi
RUN touch ffi/build.rs ffi/src/lib.rs && cargo build --release --locked

# The program, without debugging information. The manifests are complete again, so the missing parts are removed once
# more. A copied file may be older than its stand-in, which Cargo would take for current.
COPY . .
# The commit for `--version`: --build-arg COMMIT="$(git log -1 --format='%h of %cs')".
ARG COMMIT=
RUN for manifest in Cargo.toml engine/Cargo.toml server/Cargo.toml bench/Cargo.toml testing/Cargo.toml ffi/Cargo.toml; do \
        sed -i '/^\[\[\(test\|bench\|example\)\]\]/,/^$/d' "$manifest" || exit 1; \
    done \
    && touch build.rs src/main.rs engine/src/lib.rs server/src/lib.rs bench/src/lib.rs \
    && BUCKET_STREAMER_COMMIT="$COMMIT" scripts/release /shipped

FROM ${DEBIAN_IMAGE}
# The trusted certificates, without a package and without executables.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Videos are mounted at /data: the root without a name is ./data below /. If it is empty, the bundled clips are served.
RUN groupadd --gid 10001 streamer \
    && useradd --uid 10001 --gid streamer --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin streamer \
    && mkdir /data
COPY LICENSE-APACHE LICENSE-MIT LICENSING.md /usr/share/doc/bucket-streamer/
COPY --from=build /licences /usr/share/doc/bucket-streamer/
COPY deploy/healthcheck /usr/local/bin/healthcheck
COPY --from=build /shipped/bucket-streamer /usr/local/bin/bucket-streamer
WORKDIR /
# Numeric, so that orchestrators can verify that it is not root.
USER 10001:10001
# In the environment and not in CMD, so that `docker run bucket-streamer serve --root ...` is reachable from outside
# too, and that `-e` can override it.
ENV BUCKET_STREAMER_LISTEN_ADDR=0.0.0.0:3000
EXPOSE 3000
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s --retries=3 CMD ["healthcheck"]
ENTRYPOINT ["bucket-streamer"]
CMD ["serve"]
# Last, so that a new commit invalidates no other layer: --build-arg REVISION=$(git rev-parse HEAD).
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bucket-streamer" \
      org.opencontainers.image.description="Exact random access to the frames of a video, from files and buckets" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
