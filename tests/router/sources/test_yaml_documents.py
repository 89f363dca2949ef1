"""What is read from a manifest's text, and what is refused without being quoted."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from drycc_router.sources.yaml_documents import MAX_DEPTH, DocumentError, read_json, read_yaml

CANARY = "c4n4ry-s3cr3t"


def test_documents_come_with_the_line_they_begin_at() -> None:
    text = "# a comment\nkind: Service\n---\n---\n\nkind: Secret\n"
    assert read_yaml(text) == [(2, {"kind": "Service"}), (6, {"kind": "Secret"})]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("yes", "yes"),
        ("on", "on"),
        ("80", 80),
        ("-7", -7),
        ("0x1F", 31),
        ("0o17", 15),
        ("010", 10),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("1300s", "1300s"),
        (".inf", ".inf"),
        ("12:30:45", "12:30:45"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ('"true"', "true"),
        ("'80'", "80"),
        ("!!str 80", "80"),
        ("9" * 5000 + "1", DocumentError),
        ("9" * 30, float("9" * 30)),
        ("|\n  two\n  lines\n", "two\nlines\n"),
        ("", None),
    ],
)
def test_a_scalar_is_what_json_would_have_said(text: str, value: object) -> None:
    source = f"v: {text}\n"
    if value is DocumentError:
        with pytest.raises(DocumentError, match="too large"):
            read_yaml(source)
        return
    [(_, document)] = read_yaml(source)
    assert document == {"v": value}
    assert isinstance(document, dict)
    assert type(document["v"]) is type(value)


def test_keys_are_their_text() -> None:
    assert read_yaml("{80: a, on: b, null: c}") == [(1, {"80": "a", "on": "b", "null": "c"})]


def test_an_alias_is_the_value_it_names() -> None:
    text = "a: &labels {app: web}\nb: *labels\nc: [*labels, &x 1, *x]\n"
    assert read_yaml(text) == [(1, {"a": {"app": "web"}, "b": {"app": "web"}, "c": [{"app": "web"}, 1, 1]})]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [1, 2\n", 3, "expected ',' or ']'"),
        ("a: 1\na: 2\n", 2, "same key twice"),
        ("a: !!python/name:os.system\n", 1, "tag"),
        ("a: !!set {x}\n", 1, "tag"),
        ("? [a]\n: 1\n", 1, "not a word"),
        ("a: &k x\n? *k\n: 1\n", 2, "not a word"),
        ("base: &b {x: 1}\nuse:\n  <<: *b\n", 3, "merge key"),
        ("a: *nobody\n", 1, "alias"),
        ("a: *nobody\n", 1, r"write a value that begins with \* in quotes"),
        ("a: 1\nb: *.example.com\n", 2, r"write a value that begins with \* in quotes, such as '\*.example.com'"),
        ("a: 1\nb: *\n", 2, r"write a value that begins with \* in quotes"),
        ("a: &\n", 1, "write a value that begins with & in quotes"),
        ("a: &a [*a]\n", 1, "alias"),
        ("a: \x00\n", 1, "control character"),
        ("a:\n\t- 1\n", 2, "cannot start"),
    ],
)
def test_what_is_refused_names_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(DocumentError, match=words) as caught:
        read_yaml(text)
    assert caught.value.line == line


@pytest.mark.parametrize(
    "text",
    [
        f"data: {{key: {CANARY}\n",
        f"data: *{CANARY}\n",
        f"data: !{CANARY} x\n",
        f"{CANARY}: 1\n{CANARY}: 2\n",
        f"a: '{CANARY}\n",
        f'a: "\\q{CANARY}\n',
        f"%{CANARY} x\n---\na: 1\n",
        f"a: b: {CANARY}\n",
        f"a: @{CANARY}\n",
        f"!{CANARY}!x a\n",
        f"a: &{CANARY} 1\nb: &{CANARY} [*{CANARY}2]\n",
    ],
)
def test_no_error_quotes_the_text(text: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_yaml(text)
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None  # a traceback would quote PyYAML's


@pytest.mark.parametrize("opening", ["[", "- ", "{a: "])
def test_depth_is_bounded_where_the_c_composer_would_overflow_the_stack(opening: str) -> None:
    with pytest.raises(DocumentError, match="nested deeper"):
        read_yaml(opening * 200_000)


def test_a_bomb_of_aliases_is_refused_before_it_goes_off() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(DocumentError, match="aliases counted in full"):
        read_yaml("\n".join(lines))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "same key twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1e999}', "too large"),
        ('{"a": ' + "9" * 5000 + "}", "too large"),
        ("[" * 100_000, "nested deeper"),
        ("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "nested deeper"),
        (f'{{"a": {CANARY}}}', "line 1: Expecting value"),
        ("", "Expecting value"),
    ],
)
def test_json_is_held_to_the_same_rules(text: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words) as caught:
        read_json(text)
    assert CANARY not in str(caught.value)


def test_json_documents() -> None:
    assert read_json('{"kind": "List", "items": [1, 2.5, true, null, "x"]}') == [
        (1, {"kind": "List", "items": [1, 2.5, True, None, "x"]})
    ]
    assert read_json("null") == []


def test_json_documents_one_after_the_other() -> None:
    assert read_json('\n{"a": 1}\n{\n"b": 2} null\n[3]\n') == [(2, {"a": 1}), (3, {"b": 2}), (5, [3])]
    with pytest.raises(DocumentError, match="line 2: Expecting value"):
        read_json('{"a": 1}\n---')


@pytest.mark.parametrize(
    "json_says",
    [
        '{"a": "ship it \\ud83d\\ude80"}',  # a character beyond the BMP
        '{"a": "\\ud83d"}',  # half of one
        '{"a":"a\\/b"}',
        '{"a": "\x7f\x80\uffff"}',  # characters that YAML does not allow
        '{"' + "k" * 2000 + '": 1}',  # longer than a simple key of YAML
        '{\n\t"a":\t1\n}',
    ],
)
def test_json_in_a_yaml_stream_is_read_as_json(json_says: str) -> None:
    wanted = json.loads(json_says)
    lines = json_says.count("\n")
    assert read_yaml(json_says) == [(1, wanted)]
    assert read_yaml(f"# made by a program\n\n{json_says}\n") == [(3, wanted)]
    text = f"a: {{b: 1}}\n--- # the next\n{json_says}\n---\n{json_says}\n...\n---\n- c\n--- {json_says}"
    assert read_yaml(text) == [
        (1, {"a": {"b": 1}}),
        (3, wanted),
        (5 + lines, wanted),
        (8 + 2 * lines, ["c"]),
        (9 + 2 * lines, wanted),
    ]


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        ("{a: b}\n", [(1, {"a": "b"})]),
        ('{"a": &x 1, "b": *x}\n', [(1, {"a": 1, "b": 1})]),
        ('a: |\n  {"b": "\\ud83d\\ude80"}\n', [(1, {"a": '{"b": "\\ud83d\\ude80"}\n'})]),
        ("{'a': 1}\n---\n{\"b\": 2}\n", [(1, {"a": 1}), (3, {"b": 2})]),
    ],
)
def test_what_only_looks_like_json_is_read_as_yaml(text: str, documents: object) -> None:
    assert read_yaml(text) == documents


def test_an_error_beside_json_names_its_line() -> None:
    with pytest.raises(DocumentError, match="line 5: the same key twice"):
        read_yaml('{\n"a": 1\n}\n---\n{"b": 1, "b": 2}\n')


words = st.text(st.characters(codec="utf-8"))


def trees(leaves: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4), max_leaves=20
    )


@settings(max_examples=60, deadline=None)
@given(value=trees(st.none() | st.booleans() | st.integers(-(10**17), 10**17) | words))
def test_json_is_read_back_as_it_was_dumped(value: object) -> None:
    assert read_json(json.dumps({"v": value})) == [(1, {"v": value})]


@settings(max_examples=60, deadline=None)
@given(value=trees(words))
def test_quoted_yaml_is_read_back_as_it_was_dumped(value: object) -> None:
    assert read_yaml(yaml.safe_dump({"v": value}, default_style='"')) == [(1, {"v": value})]


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%@ \n\t0\x00é"), max_size=60))
def test_any_text_is_either_read_or_refused(text: str) -> None:
    for read in (read_yaml, read_json):
        try:
            read(text)
        except DocumentError:
            pass
