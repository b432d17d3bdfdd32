"""Real clients of the cloud API, as the documentation shows them, against the running server.

`AIDETECT_CLIENTS` is a folder with the clients: ``sync`` and ``async`` (pip's ``--target``) and ``node``
(where npm was run); see ``.ci/run``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import encode, shapes, wait_until
from serving import Running
from tls import certificates

from aidetect.cli.server.auth import Credentials
from aidetect.detector.detector import Detector

PAGE = Path(__file__).parents[2] / "docs" / "cloud-api.md"
THEIR_HOST = "api.sightengine.com"
OUR_HOST = "http://127.0.0.1:8077"
CLIENTS = Path(os.environ.get("AIDETECT_CLIENTS", "/nonexistent"))
SECRET = "a-secret-of-16-characters"

# In a client's process their host is this machine, and its port ours. All else of the client is as it is.
PYTHON_NAMES = """
import socket
_real = socket.getaddrinfo
def _ours(host, port, *args, **kwargs):
    if host in ("{host}", b"{host}"):
        host, port = "127.0.0.1", {port}
    return _real(host, port, *args, **kwargs)
socket.getaddrinfo = _ours
"""
NODE_NAMES = """
const tls = require('tls');
const real = tls.connect;
tls.connect = (options, ...rest) =>
  real(options.host === '{host}' ? {{ ...options, host: '127.0.0.1', port: {port} }} : options, ...rest);
"""


def program(name: str) -> str:
    """A client's program, from the documentation."""
    found = re.search(
        rf"<!-- example: client {name} -->\n```\w+\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL
    )
    assert found, name
    return found[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a picture."""
    (tmp_path / "photo.jpg").write_bytes(encode(shapes(120, 90), "JPEG"))
    return tmp_path


@pytest.fixture
def expected(folder: Path, tiny_detector: Detector) -> float:
    """The picture's probability."""
    (record,) = tiny_detector.score([folder / "photo.jpg"])
    assert record.probability is not None
    return record.probability


def run(command: list[str], folder: Path, **environment: str) -> Any:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "NO_PROXY": "*", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    sys.stdout.write(f"\n$ {command[0]} {command[-1][:60]}\n{done.stdout[:300]}")  # shown by pytest -s
    return json.loads(done.stdout)


def check(reply: Any, probability: float, running: Running) -> None:
    assert reply["status"] == "success"
    assert reply["type"]["ai_generated"] == probability
    assert reply["request"]["operations"] == 1
    assert reply["media"]["uri"] == "photo.jpg"
    assert wait_until(lambda: any(line["status"] == 200 for line in running.log))


# --- clients whose host is changed --------------------------------------------------------------------


def local(name: str, running: Running) -> str:
    text = program(name)
    assert OUR_HOST in text
    return text.replace(OUR_HOST, running.server.address)


def test_curl(running: Running, folder: Path, expected: float) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    reply = run(["bash", "-c", local("curl", running)], folder)
    check(reply, expected, running)


def test_requests(running: Running, folder: Path, expected: float) -> None:
    (folder / "client.py").write_text(local("requests", running))
    check(run([sys.executable, "client.py"], folder), expected, running)


def _modules(php: str) -> str:
    return subprocess.run([php, "-m"], capture_output=True, text=True, check=True).stdout


def test_php(running: Running, folder: Path, expected: float) -> None:
    php = shutil.which("php")
    if not php or "curl" not in _modules(php):
        pytest.skip("PHP with cURL is not installed")
    (folder / "client.php").write_text(local("php", running))
    check(run([php, "client.php"], folder), expected, running)


@pytest.fixture
def node() -> str:
    """Path of the modules of Node's clients."""
    if not shutil.which("node") or not (CLIENTS / "node" / "node_modules" / "axios").is_dir():
        pytest.skip("Node's clients are not installed")
    return str(CLIENTS / "node" / "node_modules")


def test_axios(running: Running, folder: Path, expected: float, node: str) -> None:
    (folder / "client.js").write_text(local("axios", running))
    check(run(["node", "client.js"], folder, NODE_PATH=node), expected, running)


# --- clients whose host is built in -------------------------------------------------------------------


@pytest.fixture
def theirs(start: Any, tmp_path: Path) -> Any:
    """A server that stands for their host, with a certificate and with credentials."""
    made = certificates(tmp_path, THEIR_HOST, datetime.now(UTC) + timedelta(days=1))
    running = start(
        public_hosts=(THEIR_HOST,),
        tls=(str(made.certificate), str(made.key)),
        credentials=Credentials([("me", SECRET), ("1", SECRET)]),
    )
    names = {"host": THEIR_HOST, "port": running.server.socket.getsockname()[1]}
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "sitecustomize.py").write_text(PYTHON_NAMES.format(**names))
    (tmp_path / "names.js").write_text(NODE_NAMES.format(**names))
    return running


def python(folder: Path, client: str, text: str) -> Any:
    if not (CLIENTS / client / "sightengine").is_dir():
        pytest.skip(f"the client {client} is not installed")
    (folder / "client.py").write_text(text.replace('"mine"', repr(SECRET)))
    authority = str(folder / "ca.pem")
    return run(
        [sys.executable, "client.py"],
        folder,
        PYTHONPATH=os.pathsep.join([str(folder / "names"), str(CLIENTS / client)]),
        REQUESTS_CA_BUNDLE=authority,
        SSL_CERT_FILE=authority,
    )


def test_sightengine_for_python(theirs: Running, folder: Path, expected: float) -> None:
    check(python(folder, "sync", program("sightengine")), expected, theirs)
    assert theirs.log[-1]["user"] == "me"
    with_bytes = program("sightengine").replace(
        '.set_file("photo.jpg")', '.set_bytes(open("photo.jpg", "rb").read())'
    )
    reply = python(folder, "sync", with_bytes)
    assert (reply["status"], reply["type"]["ai_generated"]) == ("success", expected)


def test_failures_reach_sightengine_for_python(theirs: Running, folder: Path) -> None:
    text = program("sightengine")
    reply = python(folder, "sync", text.replace("genai", "nudity-2.1"))
    assert (reply["status"], reply["error"]["type"]) == ("failure", "argument_error")
    assert "nudity-2.1" in reply["error"]["message"]
    reply = python(folder, "sync", text.replace('"me"', '"you"'))
    assert (reply["error"]["type"], reply["error"]["code"]) == ("argument_error", 1)
    by_url = text.replace('.set_file("photo.jpg")', '.set_url("http://127.0.0.1/a.jpg")')
    assert python(folder, "sync", by_url)["error"]["type"] == "media_error"
    video = text.replace('.set_file("photo.jpg")', '.video_sync("http://127.0.0.1/a.mp4")')
    assert python(folder, "sync", video)["error"]["type"] == "media_error"
    feedback = 'print(json.dumps(client.feedback("genai", "ai", "photo.jpg")))'
    text = re.sub(r"(?m)^print.*$", feedback, text)
    assert python(folder, "sync", text)["error"]["type"] == "argument_error"


def test_sightengine_async_for_python(theirs: Running, folder: Path, expected: float) -> None:
    check(python(folder, "async", program("sightengine-async")), expected, theirs)
    with_bytes = program("sightengine-async").replace(
        'file="photo.jpg"', 'file_bytes=__import__("io").BytesIO(open("photo.jpg", "rb").read())'
    )
    assert python(folder, "async", with_bytes)["type"]["ai_generated"] == expected


# The video model of the client insists on the results of all models that its service has. Those which this
# server does not have are filled in before the reply is parsed.
VIDEO = """
import asyncio, json, typing
from pydantic import BaseModel
from sightengine.client import SightEngineClient
from sightengine.models import CheckRequest
from sightengine.video_models import VideoSyncResponse

def filled(model, given):
    found = dict(given)
    for name, field in model.model_fields.items():
        key, kind = field.alias or name, field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found[key] = filled(kind, found.get(key, {}))
        elif typing.get_origin(kind) is list and key in found:
            (item,) = typing.get_args(kind)
            found[key] = [filled(item, each) for each in found[key]]
        elif key not in found:
            found[key] = [] if typing.get_origin(kind) or kind is typing.List else kind()
    return found

class Client(SightEngineClient):
    async def _request(self, *args, **options):
        reply = await super()._request(*args, **options)
        open("reply.json", "w").write(json.dumps(reply))
        return filled(VideoSyncResponse, reply)

asked = CheckRequest(models=["genai"], video_file="clip.mp4")
parsed = asyncio.run(Client(1, "mine").check(asked))
assert type(parsed) is VideoSyncResponse
print(parsed.model_dump_json())
"""


def test_the_video_model_of_sightengine_async(theirs: Running, folder: Path, tiny_detector: Detector) -> None:
    from drawnclips import clip, pictures

    (folder / "clip.mp4").write_bytes(clip("h264.mp4", pictures(3, 8), rate=8))
    parsed = python(folder, "async", VIDEO)
    reply = json.loads((folder / "reply.json").read_text())
    (expected,) = tiny_detector.score([folder / "clip.mp4"])
    assert expected.clip is not None
    assert parsed["status"] == "success"
    assert parsed["request"] == reply["request"]
    assert parsed["media"] == reply["media"]
    assert [frame["info"] for frame in parsed["data"]["frames"]] == [
        frame["info"] for frame in reply["data"]["frames"]
    ]
    assert [frame["info"]["position"] for frame in parsed["data"]["frames"]] == [500, 1500, 2500]
    assert [frame["type"]["ai_generated"] for frame in parsed["data"]["frames"]] == [
        frame["probability"] for frame in expected.clip["frames"]
    ]


def javascript(folder: Path, node: str, text: str) -> Any:
    (folder / "client.js").write_text(text.replace("'mine'", repr(SECRET)))
    return run(
        ["node", "--require", "./names.js", "client.js"],
        folder,
        NODE_PATH=node,
        NODE_EXTRA_CA_CERTS=str(folder / "ca.pem"),
    )


def test_sightengine_for_node(theirs: Running, folder: Path, expected: float, node: str) -> None:
    text = program("npm-sightengine")
    check(javascript(folder, node, text), expected, theirs)
    with_bytes = text.replace(
        "set_file('photo.jpg')", "set_bytes(require('fs').readFileSync('photo.jpg'), 'photo.jpg')"
    )
    check(javascript(folder, node, with_bytes), expected, theirs)
    reply = javascript(folder, node, text.replace("['genai']", "['genai', 'wad']"))
    assert reply["error"]["type"] == "argument_error"
    assert "wad" in reply["error"]["message"]
    by_url = text.replace("set_file('photo.jpg')", "set_url('http://10.0.0.1/a.jpg')")
    assert javascript(folder, node, by_url)["error"]["type"] == "media_error"
