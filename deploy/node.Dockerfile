# A node: the tilth command and what it needs, without the libraries of tasks.
#
#   docker build -t tilth-node -f deploy/node.Dockerfile .
#
# Its folder is the volume /data. It runs as user 10001 and needs no right but to talk to an engine,
# if that is to run its tasks (deploy/README.md).
ARG BASE=python:3.11-slim
FROM ${BASE} AS build
RUN python -m venv /opt/tilth
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
# The node's own requirements first, so that a change of the code does not install them again.
# scikit-learn is what the demo's persons use; a node never imports it.
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
w = p['dependencies'] + p['optional-dependencies']['node']; \
print('\n'.join(r for r in w if not r.startswith('scikit-learn')))" > requirements.txt \
 && /opt/tilth/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements.txt
COPY protos protos
COPY ledger ledger
COPY metrics metrics
COPY sdk sdk
COPY node node
RUN /opt/tilth/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps . \
 && /opt/tilth/bin/pip uninstall --yes --quiet pip setuptools

FROM ${BASE}
COPY --from=build /opt/tilth /opt/tilth
ENV PATH=/opt/tilth/bin:$PATH PYTHONUNBUFFERED=1
RUN mkdir /data && chown 10001:10001 /data
USER 10001:10001
VOLUME /data
EXPOSE 7001 7002
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s --retries=3 CMD ["tilth", "node", "health", "/data"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tilth"]
CMD ["node", "run", "/data"]
