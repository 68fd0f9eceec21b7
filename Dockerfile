# The gateway without tools to build or install anything with, run by a user that owns nothing but the data folder.
#
#   docker build -t dicom-gateway .
#   docker run -p 11112:11112 -v ./gateway.yaml:/etc/dicom-gateway/gateway.yaml:ro -v archive:/var/lib/dicom-gateway dicom-gateway
#
# The configuration needs ae.bind: 0.0.0.0 for the port to be reachable, and its archive under /var/lib/dicom-gateway.

FROM python:3.13-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY requirements-build.lock requirements-runtime.lock ./
RUN python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r requirements-build.lock
RUN python -m venv /opt/gateway && /opt/gateway/bin/pip install --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY gateway ./gateway
RUN /opt/build/bin/hatchling build -t wheel -d /opt/wheel && /opt/gateway/bin/pip install --no-index --no-deps /opt/wheel/*.whl
RUN /opt/gateway/bin/python -m compileall -q /opt/gateway/lib && /opt/gateway/bin/pip uninstall -y -q pip

FROM python:3.13-slim-bookworm
RUN groupadd --system --gid 10001 gateway && useradd --system --uid 10001 --gid gateway --home-dir /var/lib/dicom-gateway --no-create-home --shell /usr/sbin/nologin gateway && install -d -o gateway -g gateway -m 0750 /var/lib/dicom-gateway
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 GATEWAY_CONFIG=/etc/dicom-gateway/gateway.yaml
USER 10001:10001
WORKDIR /var/lib/dicom-gateway
VOLUME /var/lib/dicom-gateway
EXPOSE 11112 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 CMD ["dicom-gateway", "health"]
ENTRYPOINT ["dicom-gateway"]
CMD ["serve"]
