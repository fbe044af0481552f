# The service. Sandboxes are containers of the host's engine, beside this one: see docker-compose.yml for the socket and the folder
# that both must see. The image of the sandboxes is another: images/gemini/Dockerfile.
ARG RUST=rust:1.95-bookworm
ARG BASE=debian:bookworm-slim

FROM ${RUST} AS build
WORKDIR /build
COPY . .
# The supervisor goes into any image and is therefore static; an explicit target keeps the flag away from build scripts.
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --no-default-features --features supervisor \
        --bin greenroom-supervisor --profile supervisor --target "$target" \
    && cargo build --locked --release --bin greenroom \
    && install -D "target/$target/supervisor/greenroom-supervisor" /out/greenroom-supervisor \
    && install -D target/release/greenroom /out/greenroom

FROM ${BASE}
# The roots that TLS to the model API needs.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/ /usr/local/bin/
# Without compose, `docker run` needs all that docker-compose.yml says and why: `-p 127.0.0.1:8080:8080`, `--pid host`, the engine's
# socket (`-v /var/run/docker.sock:/var/run/docker.sock --group-add $(stat -c %g /var/run/docker.sock)`), and the state folder under its own
# path, owned by 10001 (`-v /var/lib/greenroom:/var/lib/greenroom`).
# Not root. A server that isn't root can't give files away, so sandboxes then run as this uid too.
USER 10001:10001
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    GREENROOM__SANDBOX__SUPERVISOR=/usr/local/bin/greenroom-supervisor \
    GREENROOM__SERVER__ADDRESS=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["greenroom", "healthcheck"]
ENTRYPOINT ["greenroom"]
CMD ["serve"]
