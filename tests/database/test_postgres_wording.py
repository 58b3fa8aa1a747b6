"""What a server refuses is one sentence that says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli_tools import run
from support.databases import Databases

from voices_peewee import DatabaseManager, errors

postgres_server = pytest.importorskip("support.postgres_server", exc_type=ImportError)
proxy = pytest.importorskip("support.proxy", exc_type=ImportError)
pytestmark = [pytest.mark.postgresql, pytest.mark.once]


@pytest.fixture
def guest(server: postgres_server.Server, url: str) -> Iterator[str]:
    """The URL for somebody without rights, who has a password."""
    rules = server.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local all locked scram-sha-256\n{before}")
    server.execute("CREATE ROLE guest LOGIN; CREATE ROLE locked LOGIN PASSWORD 'right'")
    server.execute("SELECT pg_reload_conf()")
    yield url.replace("voices@", "guest@")
    rules.write_text(before)
    server.execute("SELECT pg_reload_conf()")
    server.execute("DROP ROLE guest; DROP ROLE locked")


def refusal(url: str) -> str:
    """Return what is said behind the name of the database."""
    with pytest.raises(errors.DatabaseError) as caught:
        DatabaseManager(url, timeout=2).initialize()
    return str(caught.value).partition("': ")[2]


def test_a_wrong_password(guest: str) -> None:
    """Who is refused is told where the password is looked for."""
    assert refusal(guest.replace("guest@", "locked:wrong@")) == (
        "the server refuses the user or the password; see PGPASSWORD and ~/.pgpass"
    )


def test_no_schema(url: str) -> None:
    """A search path that leads nowhere is told, with how to name a schema."""
    assert refusal(f"{url}&options=-csearch_path%3Dnowhere") == (
        "no schema has been selected to create in; make the schema, or name one that is there: "
        "?options=-csearch_path%3DNAME"
    )


def test_too_many_connections(server: postgres_server.Server, guest: str) -> None:
    """A server without room for one more is told, with what makes room."""
    server.execute(f"ALTER DATABASE {Databases.name(guest)} CONNECTION LIMIT 0")
    assert refusal(guest).endswith(
        f'too many connections for database "{Databases.name(guest)}"; '
        "close some, or put PgBouncer before the server"
    )


def test_a_host_that_nobody_knows() -> None:
    """A host without an address is no server that is away."""
    assert refusal("postgresql://ada@nowhere.invalid/voices").endswith(
        "; is the host's name right?"
    )


def test_a_server_without_encryption(server: postgres_server.Server, url: str) -> None:
    """A connection that cannot be as safe as it was asked to be names the setting."""
    between = proxy.Proxy(server.sockets)
    asked = between.url(Databases.name(url)).replace("sslmode=disable", "sslmode=require")
    assert refusal(asked).endswith("; see sslmode in libpq's manual")
    between.close()


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def certificate(folder: Path, name: str, common: str, by: str) -> None:
    """Make a key and a certificate of a name that an authority of the folder has signed."""
    new = ("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={common}")
    openssl(folder, *new, "-keyout", f"{name}.key", "-out", f"{name}.csr")
    signed = ("x509", "-req", "-CA", f"{by}.crt", "-CAkey", f"{by}.key", "-CAcreateserial")
    openssl(folder, *signed, "-in", f"{name}.csr", "-out", f"{name}.crt")
    (folder / f"{name}.key").chmod(0o600)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a server that wants a certificate from its clients, and the folder of the keys."""
    folder = tmp_path_factory.mktemp("keys")
    for authority in ("ours", "strange"):
        new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={authority}")
        openssl(folder, *new, "-keyout", f"{authority}.key", "-out", f"{authority}.crt")
    certificate(folder, "server", "db.test", "ours")
    certificate(folder, "voices", "voices", "ours")
    certificate(folder, "other", "somebody", "ours")
    certificate(folder, "refused", "voices", "strange")
    own = postgres_server.Server()
    own.stop()
    address = f"127.{os.getpid() % 250 + 1}.{os.getpid() // 250 % 250}.7"
    for name in ("server.key", "server.crt", "ours.crt"):
        shutil.copy(folder / name, own.data)
        if os.getuid() == 0:
            shutil.chown(own.data / name, "nobody")
    own.settings = {**own.settings, "listen_addresses": address, "ssl": "on"}
    own.settings |= {"ssl_ca_file": "ours.crt"}
    rules = "local all all trust\nhostssl all all 0.0.0.0/0 cert\n"
    (own.data / "pg_hba.conf").write_text(rules)
    own.start()
    options = f"hostaddr={address}&sslmode=verify-full&sslrootcert={folder}/ours.crt"
    yield f"postgresql://voices@db.test/{own.create()}?{options}", folder
    own.remove()


REFUSED = {
    "missing": ("nothing", "connection requires a valid client certificate"),
    "of another authority": ("refused", "alert unknown ca"),
    "of another user": ("other", 'certificate authentication failed for user "voices"'),
}


@pytest.mark.parametrize(("key", "words"), REFUSED.values(), ids=REFUSED)
def test_a_client_certificate(guarded: tuple[str, Path], key: str, words: str) -> None:
    """A certificate that is missing or refused is one sentence that says which settings name it."""
    url, folder = guarded
    told = refusal(f"{url}&sslcert={folder}/{key}.crt&sslkey={folder}/{key}.key")
    assert words in told
    assert told.endswith("; see sslmode, sslcert and sslrootcert in libpq's manual")
    right = f"{url}&sslcert={folder}/voices.crt&sslkey={folder}/voices.key"
    with DatabaseManager(right).initialize() as db:
        assert db.status()


def test_what_libpq_would_read_is_no_file() -> None:
    """Words as psql takes them are told how a URL is written, and no file is made."""
    done = run("--db", "host=db.lab dbname=voices", "init")
    assert (done.code, done.out, done.err) == (
        1,
        "",
        ("Error: cannot use 'host=…': write a server as a URL: postgresql://USER@HOST:PORT/NAME\n"),
    )


def test_idle_for_too_long(server: postgres_server.Server, url: str) -> None:
    """A transaction that the server ended because nothing happened in it says so."""
    server.execute(
        f"ALTER DATABASE {Databases.name(url)} SET idle_in_transaction_session_timeout = 100"
    )
    with DatabaseManager(url) as db:
        with pytest.raises(errors.ServerAwayError) as caught, db.atomic():  # noqa: PT012 - the block is the test
            db.create_speaker("Ada")
            server.execute("SELECT pg_sleep(0.5)")
            db.create_speaker("Bob")
        assert "terminating connection due to idle-in-transaction timeout" in str(caught.value)
        assert db.create_speaker("Eve").name == "Eve"
