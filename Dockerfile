# The program with its packs, run as a user without rights on a read-only disk: compose.yaml.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
# An environment without pip: nothing in the final image can install more.
RUN python -m venv --without-pip /opt/two-stream
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/two-stream install -c constraints.txt . \
    && /opt/two-stream/bin/python -m compileall -q /opt/two-stream/lib

FROM python:3.11-slim-bookworm
# OpenCV loads these two. Their versions are the distribution's: it mends them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 two-stream \
    && useradd --uid 10001 --gid 10001 --groups video --no-create-home \
        --home-dir /var/lib/two-stream --shell /usr/sbin/nologin two-stream \
    && install -d -o two-stream -g two-stream -m 0700 /var/lib/two-stream /run/two-stream
COPY --from=build /opt/two-stream /opt/two-stream
COPY deploy/container.yaml /etc/two-stream/config.yaml
ENV PATH=/opt/two-stream/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_RUNTIME_DIR=/run/two-stream
USER 10001:10001
WORKDIR /var/lib/two-stream
EXPOSE 5555 5556 9108
# Alive, not ready: a container is not restarted because its cameras are away.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9108/healthz', timeout=4)"]
ENTRYPOINT ["two-stream"]
CMD ["run", "-c", "/etc/two-stream/config.yaml", "--json", "--log-format", "json"]
