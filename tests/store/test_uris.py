from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.store.uris import database_of, default_uri, local_path, sqlite_uri

ODD_NAMES = [
    "a b",
    "50%",
    "x%20y",
    "q?x",
    "h#y",
    "a;b",
    "a&b=c",
    "it's",
    'say "hi"',
    "dé ü 日本",
    "x" * 200,
    "dot.",
    "a+b",
    "a:b@c",
    "a\\b",
    "[x]",
    "$HOME",
    "uri=true?uri=true",
    "-x",
]
"""Names of folders with characters that mean something in an address or in a shell."""
any_name = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/"), min_size=1
).filter(lambda name: name not in (".", ".."))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_the_default_store_of_a_folder_is_in_that_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert database_of(default_uri(tmp_path / name)) == tmp_path / name / "mlruns" / "mlflow.db"


@settings(deadline=None, max_examples=200)
@given(any_name)
def test_the_address_of_any_file_names_that_file_for_sqlalchemy_and_for_the_store(
    name: str,
) -> None:
    from sqlalchemy import make_url

    path = Path("/top") / name / "mlflow.db"
    uri = sqlite_uri(path)
    assert database_of(uri) == path
    assert make_url(uri).database == str(path) or "uri=true" in uri
    assert local_path(path.as_uri()) == path
    assert local_path(str(path)) == path or ":" in name


def test_the_address_of_a_plain_path_stays_as_it_is() -> None:
    assert sqlite_uri(Path("/home/me/my work/mlflow.db")) == "sqlite:////home/me/my work/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:///mlruns/mlflow.db", "mlruns/mlflow.db"),
        ("sqlite:////tmp/x.db", "/tmp/x.db"),
        ("sqlite+pysqlite:////tmp/x.db", "/tmp/x.db"),
        ("sqlite:////tmp/x.db?timeout=3", "/tmp/x.db"),
        ("sqlite:///file:/tmp/x.db?uri=true", "/tmp/x.db"),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("postgresql://host/x", None),
        ("http://host", None),
    ],
)
def test_database_of(uri: str, path: str | None) -> None:
    assert database_of(uri) == (None if path is None else Path(path).absolute())
