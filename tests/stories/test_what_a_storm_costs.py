"""One owner writes as much as an API server takes, and changes it: what each change costs the router.

Work is what the interpreter executes, as in ``test_what_a_change_costs``: it may follow what changed and what is in
force, but not how much more there is of it.
"""

from __future__ import annotations

from drycc_router.compile.compiler import Compiler
from drycc_router.model.objects import Change
from tests.fakes.instructions import Work
from tests.fakes.kube import NOW, endpoints, gone, service

EACH = 450
"""Instructions for an endpoint of a slice that differs. It was 320 with Python 3.11 when this was written."""
FORCE = 200_000
"""Instructions for going through the thousand endpoints that one app may have. It was 140,000."""


def town(*changes: Change) -> Compiler:
    compiler = Compiler(trusted_endpoints=False)
    for change in (service("shop/web", {"domains": "shop.example"}), endpoints("shop/web", "10.1.0.1"), *changes):
        compiler.apply(change)
    compiler.compile(NOW)
    return compiler


def work_of(compiler: Compiler, *changes: Change) -> int:
    work = Work()
    with work.on("change"):
        for change in changes:
            compiler.apply(change)
        compiler.compile(NOW)
    return work.done["change"]


def crowd(number: int, count: int, *, six: bool = False) -> Change:
    """A slice with so many endpoints, all of one Service."""
    form = "2001:db8:{:x}:{:x}::{:x}" if six else "10.{}.{}.{}"
    addresses = [form.format(number, *divmod(each, 250)) for each in range(count)]
    return endpoints("evil/web", *addresses, slice_=f"s{number:03}", addressType="IPv6" if six else "IPv4")


def slices(count: int, upstream: str, *, six: bool = False) -> int:
    """The work of one endpoint less in one of so many slices of a thousand."""
    evil = service("evil/web", {"domains": "evil.example", "upstream": upstream})
    compiler = town(evil, *(crowd(number, 1000, six=six) for number in range(count)))
    work_of(compiler, crowd(count - 1, 999, six=six))  # what is remembered of values ever after
    return max(work_of(compiler, crowd(0, 998, six=six)), work_of(compiler, crowd(count - 1, 997, six=six)))


def test_a_change_of_one_of_a_hundred_slices_costs_what_that_slice_and_what_is_in_force_cost() -> None:
    for six in (False, True):
        few, many = slices(3, "endpoints", six=six), slices(100, "endpoints", six=six)
        assert many <= 1000 * EACH + FORCE
        assert many - few <= 100 * 200, "what is not in force costs next to nothing"


def test_also_behind_the_service_s_own_address() -> None:
    few, many = slices(2, "service"), slices(10, "service")
    assert many <= 1000 * EACH + FORCE
    assert many - few <= 8 * 200


def names(services: int) -> int:
    """The work of one Service that goes and comes again, of so many with the same five hundred names."""
    domains = ",".join(f"n{number}.evil.example" for number in range(500))
    crowd = [service(f"evil/web-{number:03}", {"domains": domains}) for number in range(services)]
    compiler = town(*crowd)
    work_of(compiler, gone(crowd[0]))
    first = work_of(compiler, crowd[0]) + work_of(compiler, gone(crowd[1]))
    last = work_of(compiler, gone(crowd[-1])) + work_of(compiler, crowd[-1])
    return max(first, last)


def test_a_service_that_comes_and_goes_costs_the_same_whoever_claims_its_names_too() -> None:
    few, many = names(20), names(200)
    assert many <= few * 1.1
