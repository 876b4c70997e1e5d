# The service with its models: docker build -t twostage .
FROM python:3.11-slim-bookworm AS build
WORKDIR /opt/twostage
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc=4:12.* libc6-dev=2.36-* make=4.3-* \
    && rm -rf /var/lib/apt/lists/*
COPY . .
# An index of PyTorch's CPU builds, such as that of its install page; empty: the usual builds, 3 GB more.
ARG TORCH_INDEX=""
ENV NO_ALBUMENTATIONS_UPDATE=1
RUN make setup EXTRAS=service TORCH_INDEX="$TORCH_INDEX" && rm -rf .cache

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin twostage \
    && install -d -o twostage /var/lib/twostage
COPY --from=build /opt/twostage /opt/twostage
WORKDIR /opt/twostage
USER 10001
ENV NO_ALBUMENTATIONS_UPDATE=1 \
    TWOSTAGE_DATABASE=sqlite:////var/lib/twostage/service.sqlite3
VOLUME /var/lib/twostage
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD [".venv/bin/python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v1/health', timeout=4)"]
# Wants the variable TWOSTAGE_TOKEN.
ENTRYPOINT [".venv/bin/twostage", "serve", "--host", "0.0.0.0"]
