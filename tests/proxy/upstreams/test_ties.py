"""What a tie does by itself; what it does for a client and an app is told in ``tests/stories/test_ties.py``."""

from __future__ import annotations

from drycc_proxy.upstreams.ties import Tie
from drycc_proxy.upstreams.upstream import Upstream
from tests.fakes.story import Story


class Client:
    def __init__(self) -> None:
        self.untied = 0

    def untie(self) -> None:
        self.untied += 1


def upstream_of(story: Story, route: str) -> Upstream:
    return story.core.table.routes[route].upstream


def test_requests_go_over_it_only_to_its_app(story: Story) -> None:
    story.serves(b"blog.example", route="blog/web")
    shop, blog = upstream_of(story, "shop/web"), upstream_of(story, "blog/web")
    tie = Tie(Client())

    assert tie.over(shop, False) is shop
    assert tie.over(shop, True) is tie
    assert tie.over(shop, False) is tie
    assert tie.over(blog, False) is blog
    assert tie.over(blog, True) is tie
    assert tie.over(shop, False) is shop


def test_a_client_that_ends_it_is_not_told_so(story: Story) -> None:
    app = story.keeps_warm()
    client = Client()
    tie = Tie(client)
    shop = upstream_of(story, "shop/web")
    tie.over(shop, True)
    endpoint = app.protocol.endpoint
    del endpoint.idle[app.protocol]
    story.core.counters.upstream_idle -= 1
    tie.keep(app.protocol)
    assert endpoint.tied == {app.protocol}
    assert repr(tie) == f"<Tie {app.protocol!r}>"

    tie.end()
    story.loop.settle()

    assert not app.is_kept
    assert endpoint.tied == set()
    assert (client.untied, tie.is_cut) == (0, False)
    tie.end()
    assert tie.over(shop, False) is tie
