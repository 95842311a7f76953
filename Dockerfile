# Parasol as an image: the interpreter, the locked wheels, the code, the contracts; no compiler, no pip cache, no root.
FROM python:3.11-slim-bookworm AS wheels
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements.runtime.lock /
RUN python -m venv /opt/parasol \
    && /opt/parasol/bin/python -m pip install --require-hashes -r /requirements.runtime.lock \
    && /opt/parasol/bin/python -m pip uninstall --yes pip setuptools

FROM python:3.11-slim-bookworm AS gateway
ENV PATH=/opt/parasol/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PARASOL_HOME=/var/lib/parasol
# The home holds the key-encryption key: give it a volume, or mount the key there.
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/parasol --create-home --shell /usr/sbin/nologin parasol
WORKDIR /srv/parasol
COPY --from=wheels /opt/parasol /opt/parasol
COPY LICENSE ./
COPY openapi ./openapi
COPY policies ./policies
COPY partners ./partners
COPY gateway ./gateway
USER 10001
VOLUME /var/lib/parasol
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1:8080', timeout=2); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "gateway.cli"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080", "--home", "/var/lib/parasol"]
