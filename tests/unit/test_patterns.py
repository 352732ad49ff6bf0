from __future__ import annotations

import re
import time
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.patterns import MAX_STATES, MAX_TEXT, compile_pattern
from shimproc.errors import InvalidArgument

LETTERS = "abA1_ -\n"
SETS = ("[ab]", "[^ab]", "[a-c1]", "[^\\d]", "[\\w-]", "[\\s1]", "[^\\W]", "[]a]", "[.]")
ATOMS = ("a", "b", "A", "1", "_", " ", "-", ".", "\\d", "\\D", "\\w", "\\W", "\\s", "\\S", "\\.", "\\n", *SETS)
PLACES = ("^", "\\A", "\\Z", "\\b", "$")
REPEATS = ("*", "+", "?", "*?", "+?", "??", "{2}", "{0}", "{1,3}", "{0,2}?", "{2,}")
GROUPS = ("(a)", "(?:b|)", "(?P<name>b|a-)", "(?i:ab)", "(?s-i:a.b)", "()", "((a)|b)", "(?m:^a)")
FLAGS = ("", "(?i)", "(?s)", "(?m)", "(?im)", "(?a)")


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Sequences, alternatives and repetitions of what ``inner`` makes."""
    repeated = st.tuples(inner, st.sampled_from(REPEATS)).map(lambda parts: f"(?:{parts[0]}){parts[1]}")
    return st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        repeated,
    )


def patterns() -> st.SearchStrategy[str]:
    return st.recursive(st.sampled_from(ATOMS + PLACES), larger, max_leaves=8)


def searched(pattern: str, text: str) -> bool:
    return compile_pattern(pattern, "filters[0]").search(text)


def as_re(pattern: str, text: str) -> bool:
    """What ``re`` says, with ``$`` as Go has it: without (?m) it is the very end, not before a last newline."""
    multiline = pattern.startswith(("(?m)", "(?im)"))
    return re.search(pattern if multiline else pattern.replace("$", "\\Z"), text) is not None


def refused(pattern: str) -> str:
    with pytest.raises(InvalidArgument) as caught:
        compile_pattern(pattern, "filters[3]")
    return caught.value.message


@given(st.sampled_from(FLAGS), patterns(), st.lists(st.text(LETTERS, max_size=12), min_size=1, max_size=5))
@example("", "", [""])
@example("", "(?:(?:a?)*)*b", ["aaab", ""])
@example("(?m)", "^a$", ["b\na\nb", "ba"])
@settings(max_examples=100)
def test_a_pattern_matches_where_re_does(flags: str, pattern: str, texts: list[str]) -> None:
    compiled = compile_pattern(flags + pattern, "filters[0]")
    assert [compiled.search(text) for text in texts] == [as_re(flags + pattern, text) for text in texts]


@given(st.sampled_from(GROUPS), patterns(), st.text(LETTERS, max_size=12))
@settings(max_examples=60)
def test_a_group_of_any_kind_matches_where_re_does(group: str, pattern: str, text: str) -> None:
    assert searched(group + pattern, text) is as_re(group + pattern, text)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.text("ab\u00e9", max_size=3))
@settings(max_examples=60)
def test_any_escaped_text_is_found_within_any_other(text: str, around: str) -> None:
    pattern = compile_pattern(re.escape(text), "filters[0]")
    assert pattern.search(text)
    assert pattern.search(around + text + around)
    assert pattern.search(around) is (text in around)


@given(patterns(), st.lists(st.text(LETTERS, max_size=12), min_size=2, max_size=6))
@settings(max_examples=60)
def test_what_a_pattern_has_seen_before_changes_no_answer(pattern: str, texts: list[str]) -> None:
    kept = compile_pattern(pattern, "filters[0]")
    first = [kept.search(text) for text in texts]
    assert [kept.search(text) for text in texts] == first == [searched(pattern, text) for text in texts]


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("web$", "web", True),
        ("web$", "web\n", False),
        ("(?m)web$", "web\n", True),
        ("^web", "\nweb", False),
        ("(?m)^web", "\nweb", True),
        ("(?m)\\Aweb", "\nweb", False),
        ("a.b", "a\nb", False),
        ("(?s)a.b", "a\nb", True),
        ("\\d", "\u0663", True),
        ("(?a)\\d", "\u0663", False),
        ("\u00e9", "caf\u00e9", True),
        ("(?i)CAF\u00c9", "caf\u00e9", True),
        ("[\u00e0-\u00ff]", "caf\u00e9", True),
        ("\\u00e9", "caf\u00e9", True),
        ("\\bexit\\b", "/tasks/exit", True),
        ("\\bexit\\b", "/tasks/exited", False),
        ("\\Bxit", "exit", True),
        ("\\Bexit", "exit", False),
        ("(?x) a  b # a comment", "ab", True),
    ],
)
def test_places_flags_and_letters_are_gos(pattern: str, text: str, expected: bool) -> None:
    assert searched(pattern, text) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", "(a)\\1", "(?P<n>a)(?P=n)", "(a)?(?(1)b|c)", "(?>a)b", "a*+", "a{1,2}+",
    ],
)  # fmt: skip
def test_what_gos_regexp_does_not_have_is_refused_by_name(pattern: str) -> None:
    assert re.fullmatch(r"filters\[3\]: the regular expression cannot be taken: .+ is not served, .+", refused(pattern))


@pytest.mark.parametrize(
    "pattern",
    ["(", "a)", "[a", "*", "a**", "a{2,1}", "\\", "(?P<>a)", "(?z)", "a(?i)", "(?L)a", "\\q", "[b-a]", "x{99999999999}"],
)
def test_what_is_no_regular_expression_is_refused_with_its_text(pattern: str) -> None:
    assert refused(pattern).startswith(f"filters[3]: {pattern!r} is no regular expression: ")


@pytest.mark.parametrize("pattern", ["(?a)(?u)x", "(?u)(?a)x"])
def test_flags_that_exclude_each_other_are_refused(pattern: str) -> None:
    assert refused(pattern).startswith("filters[3]: ")


@pytest.mark.parametrize("pattern", ["[[b]", "[b&&a]", "[b||a]", "[b~~a]"])
def test_a_set_with_signs_of_a_later_re_is_read_as_go_does_without_a_warning(pattern: str) -> None:
    """``re`` warns on stderr that it means to read these otherwise one day; in these tests each warning is an error."""
    assert searched(pattern, "b")
    assert not searched(pattern, "x")


def test_a_refusal_does_not_repeat_a_long_pattern_whole() -> None:
    assert len(refused("(" + "x" * 900)) < 300


@pytest.mark.parametrize(
    "pattern",
    [
        "a{501}",
        "(?:a{0,100}){0,100}",
        "(?:(?:(?:a{9}){9}){9}){9}",
        "(?:(?:){20000}){20000}",
        "(?:(?:(?:){60000}){60000})*",
        "(?:){0,4000000000}",
        "(?:|){4000000000}",
        "x" * (MAX_STATES + 1),
    ],
)
def test_a_pattern_that_grows_too_large_is_refused_at_once(pattern: str) -> None:
    assert _seconds(lambda: refused(pattern)) < 1
    assert "cannot be taken" in refused(pattern)


def test_a_pattern_nested_too_deep_is_refused() -> None:
    assert refused("(" * 5000 + ")" * 5000).startswith("filters[3]: ")


def test_a_pattern_of_as_many_states_as_allowed_is_taken() -> None:
    longest = "x" * (MAX_STATES - 1)
    assert searched(longest, longest)
    assert not searched(longest, longest[1:])


def test_what_follows_the_bound_of_a_text_is_not_looked_at() -> None:
    assert searched("b", "a" * (MAX_TEXT - 1) + "b")
    assert not searched("b", "a" * MAX_TEXT + "b")


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(a|a)*$", "(a*)*b", "(.*)*x", "(?:a|aa)+$", "(a|b|ab)*c", "(.*?,){11}P", "((a?)*)*x", "a?" * 60 + "a" * 60 + "x"],
)
def test_no_pattern_backtracks(pattern: str) -> None:
    """Each of these holds ``re`` for longer than the universe lasts, or nearly."""
    compiled = compile_pattern(pattern, "filters[0]")
    assert _seconds(lambda: compiled.search("a" * MAX_TEXT + "!")) < 2


def test_a_text_four_times_as_long_costs_about_four_times_as_much() -> None:
    """Random letters and a long memory: hardly any step comes twice, so nothing kept shortens the way."""
    letters = "".join(Random(7).choices("ab", k=2048))

    def fresh(length: int) -> float:
        compiled = compile_pattern("a[ab]{60}c", "filters[0]")
        return _seconds(lambda: compiled.search(letters[:length]))

    assert min(fresh(2048) for _ in range(3)) < 12 * min(fresh(512) for _ in range(3)) + 0.01


def test_what_is_kept_of_a_pattern_is_bounded() -> None:
    compiled = compile_pattern("a[^c]{20}c", "filters[0]")
    random = Random(7)
    most = 0
    for _ in range(12):
        assert not compiled.search("".join(random.choices("abdefghi", k=1000)))
        most = max(most, len(compiled._kept))
    assert 0 < most <= 4096


def _seconds(deed: Callable[[], object]) -> float:
    """The least of processor time that tells something; other work on the machine does not count."""
    before = time.thread_time()
    deed()
    return time.thread_time() - before
