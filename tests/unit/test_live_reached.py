"""How a card shows what code reached, and what everybody is told of the workers' sandboxes."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def reached_script(hosts):  # AppTest runs its lines alone, where no type is known
    from live.outside import Outside
    from pages import reached

    outside = Outside()
    for host in hosts:
        refused = host.startswith("evil")
        outside.take(
            "egress_requested",
            {
                "host": host,
                "port": 8443 if host == "b.org" else 443,
                "method": "GET",
                "outcome": "refused" if refused else "allowed",
                "reason": "It is not allowed." if refused else "9 more requests." if host == "(more)" else "",
                "status": 0 if refused else 200,
            },
        )
    outside.take(
        "tool_called", {"tool": "f", "arguments": "{" + "x" * 200, "outcome": "failed", "detail": "No."}
    )
    outside.take("variable_saved", {"name": "x_*", "type": "int", "bytes": 2, "load": "json"})
    reached.show("7", outside)


def banner_script(workers):
    from live.feed import Feed
    from live.rows import worker_of
    from pages import banner

    feed = Feed()
    feed.set_workers(tuple(filter(None, map(worker_of, workers))))
    banner.show(feed)


def test_many_requests_are_cut_and_refused_ones_are_among_those_that_are_shown() -> None:
    hosts = [f"h{n}.org" for n in range(20)] + ["b.org", "evil.org"]
    app = AppTest.from_function(reached_script, args=(hosts,), default_timeout=20).run()
    labels = [box.label for box in app.expander]
    assert labels[0] == "Internet: 22 requests to 21 sites · :red[1 refused]"
    assert app.expander[0].proto.expanded
    assert "evil\\.org" in app.expander[0].markdown[0].value
    assert "It is not allowed" in app.expander[0].markdown[0].value
    assert len(app.expander[0].markdown) == 8
    [more] = app.expander[0].button
    assert more.label == "Show 14 more"
    more.click().run()
    assert len(app.expander[0].markdown) == 22
    assert any("b\\.org\\:8443" in line.value for line in app.expander[0].markdown)
    assert labels[1:] == ["Tools: 1 call · :red[1 failed]", "Kept for later tasks of this thread: 1 variable"]


def test_what_was_not_told_one_by_one_is_a_sentence() -> None:
    app = AppTest.from_function(reached_script, args=(["a.org", "(more)"],), default_timeout=20).run()
    assert app.expander[0].label == "Internet: more than 1 request to 1 site"
    assert app.expander[0].markdown[1].value == ":material/more_horiz: 9 more requests\\."


def test_nothing_refused_stays_closed() -> None:
    app = AppTest.from_function(reached_script, args=(["a.org"],), default_timeout=20).run()
    assert not app.expander[0].proto.expanded
    assert app.expander[0].label == "Internet: 1 request to 1 site"


def banner(*workers: dict[str, str]) -> AppTest:
    given = [{"worker": str(number), **worker} for number, worker in enumerate(workers)]
    return AppTest.from_function(banner_script, args=(given,), default_timeout=20).run()


def test_a_worker_without_walls_is_always_warned_of() -> None:
    app = banner({"host": "a", "sandbox": "namespaces"}, {"host": "b*", "sandbox": "unsafe"})
    assert "on b\\*: code runs without isolation" in app.error[0].value
    assert not app.warning


def test_isolated_workers_need_no_words() -> None:
    for workers in ((), ({"host": "a", "sandbox": "landlock"},)):
        app = banner(*workers)
        assert not app.error
        assert not app.warning


def test_why_no_worker_runs_code_is_explained_once_none_does() -> None:
    without = {"host": "a", "sandbox": "unavailable", "sandbox_note": "No isolation here.\nnamespaces: no"}
    app = banner(without)
    assert "takes no tasks" in app.warning[0].value
    assert "No isolation here" in app.warning[0].value
    assert app.code[0].value == "namespaces: no"
    assert not banner(without, {"host": "b", "sandbox": "namespaces"}).warning
