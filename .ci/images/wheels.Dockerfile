# Python with every wheel of .ci/server.lock (the context is their directory): the build needs no package index.
ARG BASE
FROM ${BASE}
COPY *.whl /wheels/
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels PIP_DISABLE_PIP_VERSION_CHECK=1
