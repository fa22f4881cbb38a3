# The server image: api, worker and keeper are the same files with different commands (compose.yaml).
# Classic builder syntax only. The two arguments exist for hosts that reach no registry: .ci/compose-images.
ARG BUILD_IMAGE=python:3.11-slim-bookworm
ARG RUN_IMAGE=python:3.11-slim-bookworm

FROM ${BUILD_IMAGE} AS build
WORKDIR /build

# By themselves, so that a change of our own code does not install them again.
COPY .ci/server.lock ./
RUN python3 -m venv /opt/sandbox \
    && /opt/sandbox/bin/pip install --quiet --no-cache-dir --require-hashes --requirement server.lock

COPY pyproject.toml README.md LICENSE ./
COPY api api
COPY orchestrator orchestrator
COPY schemas schemas
COPY workers workers
RUN /opt/sandbox/bin/pip install --quiet --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/sandbox/bin/pip uninstall --quiet --yes hatchling setuptools
# pip stays: `sandbox image build` fetches the agent's program with it.

FROM ${RUN_IMAGE}
LABEL sandbox.server=1

# For the worker: file systems of a limited size, and the host's mount namespace (nsenter is in util-linux).
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install --yes --no-install-recommends e2fsprogs mount util-linux \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log

# A named volume takes owner and mode of the directory it is first mounted on. The group is handed down to all
# that the worker, as root, stores: the api reads and removes it.
RUN groupadd --gid 10001 sandbox \
    && useradd --uid 10001 --gid 10001 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin sandbox \
    && install --directory --owner=10001 --group=10001 --mode=2770 /var/lib/sandbox-artifacts

COPY --from=build /opt/sandbox /opt/sandbox
ENV PATH=/opt/sandbox/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1

USER 10001:10001
WORKDIR /
EXPOSE 8122 8121
CMD ["sandbox", "api"]
