FROM rust:1.94-bookworm AS build
WORKDIR /src
# The dependencies in a layer of their own, which holds as long as they do: what is built here is an empty program.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches tests/conformance tests/integration tests/faults && touch src/lib.rs \
    && for main in src/main.rs tests/conformance/main.rs tests/integration/main.rs tests/faults/main.rs \
        benches/index_bulk.rs benches/mcp_calls.rs benches/poll_latency.rs benches/store_write.rs; do echo 'fn main() {}' >$main; done \
    && cargo build --release --locked
COPY . .
# Cargo goes by times, and a file of the repository may be older than the empty program.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked

FROM debian:bookworm-slim
LABEL org.opencontainers.image.licenses=Apache-2.0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 sluice \
    && useradd --system --create-home --uid 10001 --gid 10001 sluice \
    && install -d -o sluice -g sluice -m 700 /data
COPY --from=build /src/target/release/sluice /usr/local/bin/sluice
COPY --chmod=755 packaging/docker/health /usr/local/bin/sluice-health
COPY LICENSE /usr/share/doc/sluice/copyright
USER 10001:10001
ENV SLUICE_DATA_DIR=/data
VOLUME /data
HEALTHCHECK --interval=60s --timeout=45s --start-period=60s --start-interval=5s CMD ["sluice-health"]
ENTRYPOINT ["sluice"]
CMD ["serve"]
