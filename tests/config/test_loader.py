"""Every problem of a configuration is told at once, with file, line and path."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.config import Config, load
from gateway.config.models import Conflict, Permission, Scope
from gateway.errors import ConfigError

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    (tmp_path / "DICOMDIR").touch()

    def write(text: str) -> Path:
        file = tmp_path / "gateway.yaml"
        file.write_text(text, "utf-8")
        return file

    return write


MINIMAL = "archive: {dicomdir: DICOMDIR}\n"


def problems(file: Path, **variables: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file, variables)
    return [one.replace(str(file.parent), "DIR") for one in caught.value.problems]


def test_a_minimal_file_has_sane_defaults(write: Write, tmp_path: Path) -> None:
    config = load(write(MINIMAL), {})
    assert config.ae.title == "GATEWAY"
    assert config.ae.bind == "127.0.0.1"
    assert config.ae.workers is None
    assert config.peers == {}
    assert config.leading == ()
    assert config.query.scope is Scope.ALL
    assert config.archive.dicomdir == tmp_path / "DICOMDIR"
    assert config.archive.on_conflict is Conflict.KEEP
    assert config.http.bind == "127.0.0.1"
    assert config.source == tmp_path / "gateway.yaml"


def test_the_contract_loads(write: Write) -> None:
    config = load(
        write(
            """
ae:        {title: GATEWAY, bind: 127.0.0.1, port: 11112, workers: auto}
peers:
  QRSCP: {aet: QRSCP, host: 127.0.0.1, port: 11113}
  VIEWER: {aet: STORESCP, host: 127.0.0.1, port: 11115, allow: [echo, find, move, get, store, commit]}
leading:   {peer: QRSCP, query_cache: {ttl: PT5M, max_entries: 10000}}
query:     {scope: all}
archive:   {dicomdir: DICOMDIR}
http:      {bind: 127.0.0.1, port: 8080}
"""
        ),
        {},
    )
    assert config.leading[0].peer == "QRSCP"
    assert config.leading[0].query_cache.ttl == timedelta(minutes=5)
    assert Permission.COMMIT in config.peers["VIEWER"].allow
    assert config.peers["QRSCP"].allow == ()


def test_several_leading_archives_are_a_list(write: Write) -> None:
    peers = "peers: {A: {aet: A, host: a, port: 104}, B: {aet: B, host: b, port: 104}}\n"
    config = load(write(MINIMAL + peers + "leading: [{peer: A}, {peer: B}]\n"), {})
    assert [leading.peer for leading in config.leading] == ["A", "B"]


def test_all_problems_at_once(write: Write) -> None:
    file = write(
        """\
ae:
  titel: GATEWAY
  port: eleven
peers:
  VIEWER:
    aet: STORESCP
    host: 127.0.0.1
    port: 70000
    allow: [echo, fined]
leading:
  peer: QRSP
  query_cache:
    ttl: 5 minutes
archive:
  dicomdir: missing/DICOMDIR
http: {bind: 0.0.0.0}
logging: loud
"""
    )
    assert (
        problems(file)
        == """\
DIR/gateway.yaml:2: ae.titel: unknown key (did you mean 'title'?)
DIR/gateway.yaml:3: ae.port: 'eleven' is not a whole number
DIR/gateway.yaml:8: peers.VIEWER.port: 70000 is not at most 65535
DIR/gateway.yaml:9: peers.VIEWER.allow[1]: 'fined' is not one of \
echo, find, move, get, store, commit, delete (did you mean 'find'?)
DIR/gateway.yaml:11: leading.peer: no peer is named 'QRSP' (defined are: VIEWER)
DIR/gateway.yaml:13: leading.query_cache.ttl: '5 minutes': \
not an ISO 8601 duration such as PT30S, PT5M, PT1H or P7D
DIR/gateway.yaml:15: archive.dicomdir: DIR/missing/DICOMDIR does not exist \
(archive.create: true begins an empty file-set)
DIR/gateway.yaml:16: http.bind: 0.0.0.0 is reachable from elsewhere (set http.token_file, or bind to 127.0.0.1)
DIR/gateway.yaml:17: logging: 'loud' is not a mapping
""".splitlines()
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ": archive: the key is missing"),
        ("ae: {title: [}", ":1: not YAML: expected the node content, but found '}'"),
        ("- a\n- b\n", ":1: a mapping of sections is wanted here"),
        ("ae: {title: A}\nae: {title: B}\n" + MINIMAL, ":2: ae: the key is there twice (first in line 1)"),
        ("ae:\n  port: 1\n  port: 2\n" + MINIMAL, ":3: ae.port: the key is there twice (first in line 2)"),
        ("ae: {title: 1234}\n" + MINIMAL,
         ':1: ae.title: 1234 is not text (text that looks like a number needs quotes: "1234")'),
        ("ae: {title: A_TITLE_THAT_IS_TOO_LONG}\n" + MINIMAL,
         ":1: ae.title: 'A_TITLE_THAT_IS_TOO_LONG': an AE title has 1 to 16 characters"),
        ("ae: {port: true}\n" + MINIMAL, ":1: ae.port: True: a number is wanted here"),
        ("ae: {workers: 0}\n" + MINIMAL, ":1: ae.workers: 0 is not at least 1"),
        ("ae: {max_pdu: 16 Kilobytes}\n" + MINIMAL,
         ":1: ae.max_pdu: '16 Kilobytes': not a size such as 1048576, 64MiB or 2GB"),
        ("arcive: {}\n" + MINIMAL, ":1: arcive: unknown key (did you mean 'archive'?)"),
        ("peers: {A: {aet: A, port: 104}}\n" + MINIMAL, ":1: peers.A.host: the key is missing"),
        ("peers: {A: {aet: A, host: a, port: 104, addresses: [here]}}\n" + MINIMAL,
         ":1: peers.A.addresses[0]: 'here': 'here' does not appear to be an IPv4 or IPv6 network"),
        ("peers:\n  A: {aet: A, host: a, port: 104}\n  B: {aet: A, host: b, port: 104}\n" + MINIMAL,
         ":3: peers.B.aet: 'A' is the AE title of 'A' already (a move destination is found by its AE title)"),
        ("peers: {A: {aet: A, host: a, port: 104, destinations: [B]}}\n" + MINIMAL,
         ":1: peers.A.destinations[0]: no peer is named 'B' (defined are: A)"),
        ("leading: {peer: QRSCP}\n" + MINIMAL, ":1: leading.peer: no peer is named 'QRSCP' (defined are: none)"),
        ("peers: {ME: {aet: GATEWAY, host: localhost, port: 11112}}\nleading: {peer: ME}\n" + MINIMAL,
         ":2: leading.peer: 'ME' is this gateway itself (queries would go in a circle)"),
        ("archive: {dicomdir: .}\n", ":1: archive.dicomdir: DIR is a folder (name the DICOMDIR in it)"),
        ("archive: {dicomdir: DICOMDIR, index: index}\n",
         ":1: archive.index: the index must be outside the file-set (its root is DIR)"),
        ("coercion: {rules: none.yaml}\n" + MINIMAL, ":1: coercion.rules: DIR/none.yaml does not exist"),
        ("audit: {syslog: {host: collector}}\n" + MINIMAL,
         ":1: audit.syslog.host: a collector needs a spool (audit.syslog.spool: var/audit.spool)"),
        ("audit: {file: no/audit.xml}\n" + MINIMAL, ":1: audit.file: DIR/no does not exist (make the folder)"),
        ("http: {token_file: none}\n" + MINIMAL, ":1: http.token_file: DIR/none does not exist"),
    ],
)  # fmt: skip
def test_one_problem(write: Write, text: str, problem: str) -> None:
    (found,) = problems(write(text))
    assert found == f"DIR/gateway.yaml{problem}"


def test_an_unbounded_cache_without_a_lifetime_is_refused(write: Write) -> None:
    text = """\
peers: {A: {aet: A, host: a, port: 104}}
leading:
  peer: A
  query_cache:
    ttl: null
    max_entries: 0
"""
    (found,) = problems(write(MINIMAL + text))
    assert found == (
        "DIR/gateway.yaml:7: leading.query_cache.max_entries: 0 is unbounded and needs a ttl"
        " (it would grow without end: set ttl, such as PT5M, or a bound)"
    )
    assert load(write(MINIMAL + text.replace("null", "PT5M")), {}).leading[0].query_cache.max_entries == 0
    assert load(write(MINIMAL + text.replace(" 0\n", " 10\n")), {}).leading[0].query_cache.ttl is None


def test_an_archive_that_is_asked_by_move_has_to_be_allowed_to_store(write: Write) -> None:
    text = """\
peers: {A: {aet: A, host: a, port: 104, allow: [echo]}}
leading: {peer: A}
retrieve: {via: move}
"""
    (found,) = problems(write(MINIMAL + text))
    assert found == (
        "DIR/gateway.yaml:4: retrieve.via: 'A' is not allowed to store"
        " (it sends what is pulled: add store to its allow, or set retrieve.via to get)"
    )
    assert load(write(MINIMAL + text.replace("echo", "store")), {}).retrieve.via.value == "move"


def test_a_spool_inside_the_file_set_is_refused(write: Write) -> None:
    (found,) = problems(write("archive: {dicomdir: files/DICOMDIR, create: true}\nretrieve: {spool: files/spool}\n"))
    assert "retrieve.spool: the spool must be outside the file-set" in found


def test_a_bad_section_does_not_hide_what_is_wrong_elsewhere(write: Write) -> None:
    found = problems(write("peers: {QRSCP: {aet: A}}\nleading: {peer: QRSPC}\narchive: {dicomdir: none}\n"))
    assert [one.split(": ")[1] for one in found] == [
        "peers.QRSCP.host", "peers.QRSCP.port", "leading.peer", "archive.dicomdir",
    ]  # fmt: skip
    assert "did you mean 'QRSCP'?" in found[2]


def test_not_utf8_and_unreadable_files(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_bytes(b"ae:\n  title: \xff\n")
    assert problems(file) == ["DIR/gateway.yaml:2: not UTF-8"]
    file.write_text("- " * 5000)
    assert problems(file) == ["DIR/gateway.yaml: nested too deep"]
    (tmp_path / "conf").mkdir()
    assert problems(tmp_path / "conf") == ["DIR/conf: Is a directory"]
    assert problems(tmp_path / "none.yaml") == ["DIR/none.yaml: No such file or directory"]


def test_aliases_of_aliases_end(write: Write) -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for name, inner in zip("bcdefgh", "abcdefg", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{inner}'] * 10)}]\n"
    assert any("too much" in one for one in problems(write(bomb)))
    assert any("too much" in one for one in problems(write("a: &a [*a]\n")))


def test_variables_override_keys(write: Write) -> None:
    file = write(MINIMAL + "peers: {Viewer: {aet: V, host: v, port: 104}}\n")
    config = load(
        file,
        {
            "GATEWAY__AE__PORT": "0",
            "GATEWAY__AE__TITLE": "1234",
            "GATEWAY__AE__WORKERS": "auto",
            "GATEWAY__AE__TIMEOUTS__IDLE": "PT1S",
            "GATEWAY__PEERS__VIEWER__ALLOW": "[echo, find]",
            "GATEWAY__PEERS__OTHER": "{aet: OTHER, host: o, port: 104}",
            "GATEWAY__LEADING__PEER": "Viewer",
            "GATEWAY__QUERY__LENIENT": "true",
            "PATH": "/bin",
        },
    )
    assert config.ae.port == 0
    assert config.ae.title == "1234"
    assert config.ae.workers is None
    assert config.ae.timeouts.idle == timedelta(seconds=1)
    assert config.peers["Viewer"].allow == (Permission.ECHO, Permission.FIND)
    assert config.peers["OTHER"].host == "o"
    assert config.leading[0].peer == "Viewer"
    assert config.query.lenient


def test_secrets_come_from_files(write: Write, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("TITLE\n")
    token = tmp_path / "token"
    token.write_text("t")
    variables = {"GATEWAY__AE__TITLE_FILE": str(tmp_path / "secret"), "GATEWAY__HTTP__TOKEN_FILE": str(token)}
    config = load(write(MINIMAL), variables)
    assert config.ae.title == "TITLE"
    assert config.http.token_file == token  # a key that ends in _file is that key


def test_problems_of_variables_name_the_variable(write: Write) -> None:
    found = problems(
        write(MINIMAL),
        GATEWAY__AE__PORT="x",
        GATEWAY__AE__PROT="1",
        GATEWAY__AE__TITLE_FILE="/does/not/exist",
        GATEWAY__PEERS="[",
    )
    assert found == [
        "environment: GATEWAY__AE__TITLE_FILE: /does/not/exist: No such file or directory",
        "environment: GATEWAY__PEERS: not YAML",
        "environment: GATEWAY__AE__PORT: ae.port: 'x' is not a whole number",
        "environment: GATEWAY__AE__PROT: ae.prot: unknown key (did you mean 'port'?)",
    ]


def test_what_turns_out_wrong_later_is_told_the_same_way(write: Write, tmp_path: Path) -> None:
    config = load(write("ae:\n  port: 104\n" + MINIMAL), {})
    complaint = config.complaint(("ae", "port"), "104 is in use")
    assert complaint.problems == [f"{tmp_path}/gateway.yaml:2: ae.port: 104 is in use"]
    assert config.complaint(("http", "port"), "in use").problems == [f"{tmp_path}/gateway.yaml: http.port: in use"]


def test_the_values_are_frozen(write: Write) -> None:
    config: Config = load(write(MINIMAL), {})
    with pytest.raises(ValueError, match="frozen"):
        config.ae.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "value", ["null", "7", "text", "[]", "{}", "[1, 2]", "{a: {b: [c]}}", "[[[]]]", "2020-01-01", "!!binary aGk="]
)
@pytest.mark.parametrize(
    "key",
    ["ae", "ae.port", "peers", "peers.A", "peers.A.allow", "leading", "leading.peer", "archive", "http.bind", "x.y"],
)
def test_whatever_stands_where_it_is_told_in_one_line_each(write: Write, key: str, value: str) -> None:
    text = value
    for part in reversed(key.split(".")):
        text = f"{{{part}: {text}}}"
    assert all("\n" not in problem for problem in problems(write(text)))
