# attnattack on a CPU, in JupyterLab:
#     docker build -t attnattack .
#     docker run --rm -p 127.0.0.1:8888:8888 attnattack
# and its command: docker run --rm attnattack attnattack --help
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 reader
WORKDIR /home/reader/attnattack
COPY --chown=reader . .
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    -c constraints.txt -e '.[lab,photos,runs]'

USER 1000
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "nbs"]
