# What the code of tasks runs in: Python with numpy, h5py and scikit-learn, and nothing of Tilth.
#
#   docker build -t tilth-task -f deploy/task.Dockerfile deploy
#
# A node builds environments on top of this image (engine.base in node.toml). The steps' runner
# comes from the node in a read-only volume, so an image stays valid when the node is upgraded.
ARG BASE=python:3.11-slim
FROM ${BASE}
ARG REQUIREMENTS="numpy>=1.26,<3 h5py>=3.10,<4 scikit-learn>=1.4,<2"
RUN python -m pip install --no-cache-dir --disable-pip-version-check ${REQUIREMENTS}
# Numeric user and group: nobody, on every base.
USER 65534:65534
HEALTHCHECK NONE
CMD ["python", "--version"]
