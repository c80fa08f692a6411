"""Faults on purpose: which requests they meet, and that a seed repeats them."""

from collections import Counter
from random import Random

import pytest

from cdf_upsert.sandbox.faults import (
    OPERATIONS,
    Answer,
    Cut,
    Delay,
    Expire,
    Faults,
    Latency,
    Lost,
    Partial,
    Script,
    Throttle,
    Trickle,
    failing,
    read_script,
)
from cdf_upsert.sandbox.problem import SandboxError


def met(faults: Faults, count: int, operation: str = "upsert") -> list[int]:
    """Which of so many requests, from 1, meet a fault."""
    return [n for n in range(1, count + 1) if faults.plan(operation, "/", str(n).encode()).fault is not None]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"requests": (2, 5)}, [2, 5]),
        ({"first": 3, "last": 5}, [3, 4, 5]),
        ({"first": 2, "every": 3}, [2, 5, 8]),
        ({"times": 2}, [1, 2]),
        ({"first": 4, "times": 1}, [4]),
        ({"share": 0.0}, []),
        ({"on": ("filter",)}, []),
    ],
)
def test_a_rule_meets_the_requests_it_names(rule, expected):
    """Ordinals, ranges, steps and numbers of times pick the requests; other operations are left alone."""
    assert met(Faults(Script((Cut(**rule),))), 8) == expected


def test_a_share_is_about_that_share():
    """A share of 0.2 meets about a fifth, and a seed always the same ones."""
    script = Script((Cut(share=0.2),))
    found = met(Faults(script, seed=1), 2000)
    assert 320 < len(found) < 480
    assert found == met(Faults(script, seed=1), 2000)
    assert found != met(Faults(script, seed=2), 2000)


def test_the_first_fault_that_meets_happens():
    """Rules are asked in their order, and each counts every request of its operations."""
    faults = Faults(Script((Cut(requests=(2,)), Lost(requests=(2, 3)))))
    assert [type(faults.plan("upsert", "/", b"").fault) for _ in range(3)] == [type(None), Cut, Lost]


def test_chaos_repeats_for_the_same_requests_in_any_order():
    """A request meets the same fault whenever it comes, and its second try the same as its second try before."""
    requests = [(f"/{n}", str(n).encode()) for n in range(300)]

    def found(order) -> dict:
        faults = Faults(chaos=0.3, seed=7)
        plans: dict = {}
        for path, body in [*order, *order]:
            plans.setdefault(path, []).append(faults.plan("upsert", path, body).fault)
        return plans

    forth = found(requests)
    assert forth == found(requests[::-1])
    assert any(one != other for one, other in forth.values())


def test_chaos_holds_its_share_and_every_kind():
    """The share of requests that meet a fault is the one asked for, and over many all kinds come up."""
    faults = Faults(chaos=0.25, seed=3)
    kinds = Counter(type(faults.plan("upsert", "/", str(n).encode()).fault) for n in range(4000))
    assert 850 < 4000 - kinds[type(None)] < 1150
    assert set(kinds) == {type(None), Throttle, Answer, Partial, Lost, Cut, Trickle, Expire, Delay}
    reads = {type(Faults(chaos=1, seed=n).plan("filter", "/", b"").fault) for n in range(300)}
    assert Partial not in reads
    assert Faults(chaos=1).plan("token", "/", b"").fault is None


def test_no_faults_cost_nothing():
    """Without a script, chaos or latency nothing is hashed or counted."""
    faults = Faults()
    faults.plan("upsert", "/", b"x")
    assert not faults._seen


def test_latency_has_its_median_and_percentile():
    """A log-normal latency has the median and the 99th percentile that were asked for; a fixed one is fixed."""
    dice = Random(1)
    drawn = sorted(Latency(median=0.05, p99=0.8).draw(dice) for _ in range(20_000))
    assert drawn[10_000] == pytest.approx(0.05, rel=0.1)
    assert drawn[19_800] == pytest.approx(0.8, rel=0.15)
    assert Latency(fixed=0.3).draw(dice) == 0.3
    assert Faults(Script(latency=Latency(fixed=0.3))).plan("filter", "/", b"").latency == 0.3


def test_a_partial_fault_hits_its_keys_or_its_share():
    """Named keys fail where the request has them; a share hits that many, at least one; some may be left out."""
    keys = [f"s.{n}" for n in range(100)]
    assert failing(Partial(keys=frozenset({"s.3", "s.x"})), keys, Random(1)) == ({"s.3"}, frozenset())
    failed, left_out = failing(Partial(of=0.25, left_out=0.1), keys, Random(1))
    assert (len(failed), len(left_out)) == (25, 10)
    assert len(failing(Partial(of=0.001), keys, Random(1))[0]) == 1


def test_a_script_is_read_from_toml(tmp_path):
    """Every kind of fault can be written in a file."""
    path = tmp_path / "faults.toml"
    path.write_text(
        """
latency = { median = 0.01, p99 = 0.1 }
[[fault]]
kind = "throttle"
requests = [1]
retry_after = 2
as_date = true
[[fault]]
kind = "answer"
status = 502
html = true
on = ["filter", "token"]
[[fault]]
kind = "partial"
code = 409
keys = ["s.a"]
written = true
left_out = 0.5
shape = "no list"
[[fault]]
kind = "lost"
every = 3
[[fault]]
kind = "cut"
share = 0.5
[[fault]]
kind = "trickle"
seconds = 1.5
[[fault]]
kind = "expire"
times = 1
[[fault]]
kind = "delay"
first = 2
last = 3
"""
    )
    script = read_script(path)
    assert script.latency == Latency(median=0.01, p99=0.1)
    kinds = [Throttle, Answer, Partial, Lost, Cut, Trickle, Expire, Delay]
    assert [type(fault) for fault in script.fault] == kinds
    assert script.fault[0] == Throttle(requests=(1,), retry_after=2, as_date=True)
    assert set(script.fault[1].on) <= set(OPERATIONS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense", "not usable"),
        ("[[fault]]\nkind = 'flood'", "flood"),
        ("[[fault]]\nkind = 'cut'\nshare = 2", "share"),
        ("[[fault]]\nkind = 'cut'\nshare = -0.1", "share"),
        ("[[fault]]\nkind = 'delay'\nseconds = -1", "seconds"),
        ("[[fault]]\nkind = 'cut'\nfirst = 0", "first"),
        ("[[fault]]\nkind = 'answer'\nstatus = 200", "status"),
        ("[[fault]]\nkind = 'answer'\nstatus = 600", "status"),
        ("[[fault]]\nkind = 'cut'\nspeed = 2", "speed"),
        ("[[fault]]\nkind = 'cut'\non = ['upset']", "upset"),
        ("colour = 'red'", "colour"),
        ("[[fault]]\nkind = 'partial'\non = ['upsert', 'filter']", "only they answer in part"),
        ("[[fault]]\nkind = 'expire'\non = ['token']", "bring no token"),
    ],
)
def test_a_script_that_is_not_usable_is_refused(tmp_path, text, told):
    """A whole sentence names the file and the place."""
    path = tmp_path / "faults.toml"
    path.write_text(text)
    with pytest.raises(SandboxError) as caught:
        read_script(path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)
    with pytest.raises(SandboxError, match="cannot be read"):
        read_script(tmp_path / "nothing.toml")
