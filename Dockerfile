# The gateway as an image: built with full optimisation, run by a user without rights, configuration mounted at /etc/moongate.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --bin moongate && cp target/dist/moongate /usr/local/bin/moongate

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home moongate
COPY --from=build /usr/local/bin/moongate /usr/local/bin/moongate
COPY LICENSE /usr/share/doc/moongate/LICENSE
COPY config /etc/moongate/config
COPY agents /etc/moongate/agents
COPY scripts /etc/moongate/scripts
USER moongate
WORKDIR /etc/moongate
# Inside a container the loopback address reaches nobody.
ENV MOONGATE_LISTEN=0.0.0.0:8080
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["moongate"]
CMD ["serve", "--config", "/etc/moongate/config/gateway.yaml"]
