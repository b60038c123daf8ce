# The environment of the locks, for any container engine. Linted with hadolint, and not built: there was no
# engine where it was written.
#
#   docker build -t rm-robustness .                        # --build-arg VLLM=1: with vLLM; CPU=1: torch's CPU build
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/rm-robustness" rm-robustness snakemake all
#
# The repository is mounted, so that results are outside and an edit of src/ counts. Tokens (HF_TOKEN) are
# passed when it runs, `-e HF_TOKEN`; none is in the image.
FROM python:3.11-slim
ARG VLLM=
ARG CPU=

# git for records and sources; a compiler, because torch and vLLM compile kernels while they run.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /rm-robustness
COPY Makefile pyproject.toml README.md LICENSE requirements.lock requirements-vllm.lock requirements-vllm-cpu.lock ./
COPY config config
COPY data/paper data/paper
COPY workflow/schemas workflow/schemas
COPY src src
RUN make env ENV=/opt/venv VLLM="$VLLM" CPU="$CPU"

# USER: torch asks for a name, which the owner of the mounted files has only outside.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp USER=user
USER 1000:1000
CMD ["rm-robustness", "--help"]
