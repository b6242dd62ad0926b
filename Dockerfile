FROM rust:1.94-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/sluice /sluice

FROM debian:bookworm-slim
LABEL org.opencontainers.image.licenses=Apache-2.0
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --uid 10001 sluice \
    && install -d -o sluice /data
COPY --from=build /sluice /usr/local/bin/sluice
COPY LICENSE /usr/share/doc/sluice/copyright
USER sluice
ENV SLUICE_DATA_DIR=/data
VOLUME /data
ENTRYPOINT ["sluice"]
CMD ["serve"]
