"""Problems read well, stay short and obey no terminal."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from drycc_router.model.objects import ObjectKey
from drycc_router.model.problems import ALIKE, Problem, ProblemIndex, Reason, Severity, bounded, shorten

WEB = ObjectKey("Service", "shop", "web")


def test_a_problem_reads_as_object_key_value_expectation_and_machine_name() -> None:
    problem = Problem(
        Reason.BAD_VALUE, WEB, "router.drycc.cc/bodySize", "ten", "expected a size such as 512k, 10m or 0"
    )

    assert str(problem) == (
        "Service shop/web: router.drycc.cc/bodySize = 'ten': expected a size such as 512k, 10m or 0 [bad_value]"
    )
    assert problem.as_json() == {
        "reason": "bad_value",
        "severity": "problem",
        "kind": "Service",
        "namespace": "shop",
        "name": "web",
        "key": "router.drycc.cc/bodySize",
        "value": "ten",
        "message": "expected a size such as 512k, 10m or 0",
    }


def test_a_problem_of_a_whole_object_names_only_the_object() -> None:
    assert str(Problem(Reason.EXTERNAL_NAME, WEB, "", "", "expected ClusterIP")) == (
        "Service shop/web: expected ClusterIP [external_name]"
    )


def test_a_note_is_not_something_to_mend() -> None:
    assert Problem(Reason.NOT_YET, WEB, "", "", "").is_note
    assert not Problem(Reason.BAD_VALUE, WEB, "", "", "").is_note


def test_every_reason_has_a_sentence_a_remedy_and_a_machine_name_for_metrics() -> None:
    for reason in Reason:
        assert reason.value == reason.name.lower()
        assert reason.sentence.endswith(".")
        assert reason.remedy.endswith(".")
        assert isinstance(reason.severity, Severity)


@given(st.text(alphabet=st.characters(), max_size=300))
def test_a_shown_value_is_short_and_printable_whatever_was_written(text: str) -> None:
    shown = shorten(text)

    assert len(shown) <= 80
    assert shown.isprintable()
    assert shorten(shown) == shown


def test_a_line_end_or_an_escape_sequence_cannot_forge_a_log_line() -> None:
    problem = Problem(Reason.BAD_VALUE, WEB, "key", "a\r\nb\x1b[31m\ud800", "expected a size")

    assert problem.value == r"a\r\nb\x1b[31m\ud800"
    assert msgspec.structs.replace(problem) == problem


def about(name: str, reason: Reason = Reason.BAD_VALUE) -> Problem:
    return Problem(reason, ObjectKey("Service", "shop", name), "", "", "expected something else")


def test_a_ledger_says_what_there_is_what_came_and_what_went() -> None:
    ledger = ProblemIndex()
    ledger.put("web", [about("web"), about("api")])

    assert ledger.take() == ((about("api"), about("web")), (about("api"), about("web")), ())

    ledger.put("web", [about("web"), about("cart")])

    assert ledger.take() == ((about("cart"), about("web")), (about("cart"),), (about("api"),))
    assert ledger.take() == ((about("cart"), about("web")), (), ())


def test_the_same_problem_from_two_subjects_is_one_and_goes_with_the_last() -> None:
    ledger = ProblemIndex()
    ledger.put("one", [about("web")])
    ledger.put("two", [about("web")])
    assert ledger.take() == ((about("web"),), (about("web"),), ())

    ledger.put("one", [])
    assert ledger.take() == ((about("web"),), (), ())

    ledger.put("two", [])
    assert ledger.take() == ((), (), (about("web"),))


def test_what_came_and_went_between_two_looks_was_never_there() -> None:
    ledger = ProblemIndex()
    ledger.put("one", [about("web")])
    ledger.put("one", [])

    assert ledger.take() == ((), (), ())


def test_of_many_alike_the_first_are_told_and_how_many_there_are_beside() -> None:
    def element(number: int, key: str = "domains", name: str = "web") -> Problem:
        return Problem(Reason.BAD_ELEMENT, ObjectKey("Service", "shop", name), key, f"v{number}", "expected a name")

    few = [element(number) for number in range(ALIKE)]
    assert bounded(few) == tuple(few)

    others = [element(7, "denylist"), element(7, name="api"), about("web")]
    told = bounded([*(element(number) for number in range(1000)), *others])

    assert told[: ALIKE + 3] == (*few, *others)
    assert [(each.key, each.value, each.message) for each in told[ALIKE + 3 :]] == [
        ("domains", "", "expected otherwise; 975 more like this")
    ]


def test_elements_of_one_field_are_alike() -> None:
    told = bounded(
        Problem(Reason.REFUSED_ADDRESS, WEB, f"endpoints[{number}].addresses", "", "expected a pod")
        for number in range(100)
    )

    assert len(told) == ALIKE + 1
    assert told[-1].key == "endpoints"
