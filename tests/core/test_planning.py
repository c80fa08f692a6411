"""What a load takes: counted, and reckoned."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.distinct import EXACT_UP_TO, REGISTERS, DistinctKeys
from cdf_upsert.core.packing import Packer, body_bytes
from cdf_upsert.core.planning import (
    Bottleneck,
    Bounds,
    Surveyor,
    Work,
    forecast,
    make_plan,
    remaining,
)
from cdf_upsert.core.quota import TEMPLATES, Quota
from cdf_upsert.core.record import Record
from cdf_upsert.core.stream import Limit, StreamFacts
from cdf_upsert.core.telling_plan import plan_data, plan_text

LIVE = TEMPLATES["BasicLiveData"]
IDENTITY = Bounds(quota=LIVE, requests_per_second=30.0, at_once=15)


def record(i: int, size: int = 300) -> Record:
    text = b'{"externalId":"%d"' % i + b" " * (size - 20) + b"}"
    return Record(text, ("s", str(i)), i, "a.ndjson", i + 1, i + 1, 0)


def facts(records: Limit | None = None, gigabytes: Limit | None = None) -> StreamFacts:
    return StreamFacts("t", "BasicLiveData", mutable=True, records=records, gigabytes=gigabytes)


def work(records: int, size: int = 460) -> Work:
    return Work(records, records * size, -(-records // 1000))


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=300))
def test_few_keys_are_counted_exactly(keys):
    """The count is that of a set."""
    found = DistinctKeys()
    found.add(keys)
    assert found.is_exact
    assert found.count() == len(set(keys))


@pytest.mark.parametrize("number", [EXACT_UP_TO + 1, 40_000, 100_000, 300_000])
def test_many_keys_are_estimated_in_flat_memory(number):
    """Within four standard errors (3.2 %), in 16 KiB; seen twice is counted once."""
    found = DistinctKeys()
    for start in range(0, number, 10_000):
        keys = [("space", f"key-{i}") for i in range(start, min(number, start + 10_000))]
        found.add(keys)
        found.add(keys[:100])
    assert not found.is_exact
    assert found.count() == pytest.approx(number, rel=4 * 1.04 / REGISTERS**0.5)
    assert len(found._registers) == REGISTERS
    assert found._seen is None


def test_the_parts_of_a_key_are_kept_apart():
    """(ab, c) and (a, bc) are two keys."""
    found = DistinctKeys()
    found.add([("ab", "c"), ("a", "bc")])
    assert found.count() == 2


@given(sizes=st.lists(st.integers(30, 3000), max_size=200), most=st.integers(4000, 20_000))
def test_a_survey_counts_the_requests_of_a_load(sizes, most):
    """Requests and bytes are those that the load's own packer makes."""
    records = [record(i, size) for i, size in enumerate(sizes)]
    packer = Packer(50, most)
    batches = [batch for batch in (*packer.add(records), packer.flush()) if batch.records]
    surveyor = Surveyor(Packer(50, most), zlib.compress)
    surveyor.add(records[:70])
    surveyor.add(records[70:])
    survey = surveyor.survey()
    assert survey.work == Work(
        len(records), sum(body_bytes(batch.records) for batch in batches), len(batches)
    )
    assert survey.distinct_keys == len(records)


def test_a_survey_estimates_the_compressed_size_from_some_requests():
    """The estimate is near the truth, and not every request is compressed for it."""
    calls = []

    def compress(body: bytes) -> bytes:
        calls.append(len(body))
        return zlib.compress(body, 1)

    surveyor = Surveyor(Packer(100, 10**7), compress)
    records = [record(i) for i in range(10_000)]
    surveyor.add(records)
    survey = surveyor.survey()
    truth = sum(
        len(zlib.compress(b",".join(one.text for one in records[i : i + 100]), 1))
        for i in range(0, len(records), 100)
    )
    assert survey.compressed_bytes == pytest.approx(truth, rel=0.05)
    assert len(calls) < 30


def test_a_small_load_is_bounded_by_requests():
    """Ten thousand records fit into one window: a third of a second to a second."""
    found = forecast(work(10_000), IDENTITY)
    assert (found.windows, found.bottleneck) == (1, Bottleneck.REQUESTS)
    assert found.low == pytest.approx(10 / 30)
    assert found.high == pytest.approx(1.0)


def test_a_large_load_is_bounded_by_the_quota():
    """400,000 new records: 230,000 have to wait, in a bucket for 13.5 minutes, in windows for twenty."""
    found = forecast(work(400_000), IDENTITY)
    assert (found.windows, found.bottleneck) == (3, Bottleneck.RECORDS)
    assert found.low == pytest.approx(230_000 / 170_000 * 600)
    assert 1200 < found.expected < 1203 < found.high < 1220


def test_large_records_are_bounded_by_the_bytes():
    """100,000 records of 5 kB are 500 MB: three windows of 170 MB, though the records would fit into one."""
    found = forecast(work(100_000, 5000), IDENTITY)
    assert (found.windows, found.bottleneck) == (3, Bottleneck.BYTES)


def test_max_rate_can_be_the_bottleneck():
    """At 100 records a second the quota is never spent."""
    found = forecast(work(400_000), Bounds(quota=LIVE, requests_per_second=30.0, max_rate=100.0))
    assert found.bottleneck is Bottleneck.MAX_RATE
    assert found.low == found.high == pytest.approx(4000, rel=0.35)
    assert found.low >= 4000


def test_a_five_million_load_takes_the_hours_that_the_quota_asks():
    """5 million creates take at least 4.7 hours: 29 windows after the first burst, less the last one's rest."""
    found = forecast(work(5_000_000), IDENTITY)
    assert found.windows == 30
    assert found.low == pytest.approx((5_000_000 / 170_000 - 1) * 600)
    assert found.expected == pytest.approx(29 * 600, rel=0.01)
    assert found.high == pytest.approx(29 * 600, rel=0.02)


def test_nothing_takes_no_time():
    """An empty input needs nothing."""
    found = forecast(Work(0, 0, 0), IDENTITY)
    assert (found.low, found.high, found.windows, found.bottleneck) == (0.0, 0.0, 0, None)
    assert "none: there is nothing to load" in plan_text(plan_of(facts(), 0))


@given(
    records=st.integers(0, 2_000_000),
    more=st.integers(0, 500_000),
    left=st.floats(0.0, 1.0),
    speed=st.one_of(st.none(), st.floats(10.0, 50_000.0)),
)
def test_a_forecast_is_a_range_that_grows_with_the_work(records, more, left, speed):
    """The lower end is never above the upper one, and more records never take less time."""
    bounds = Bounds(quota=LIVE, requests_per_second=30.0, at_once=15, left=left, speed=speed)
    found, longer = forecast(work(records), bounds), forecast(work(records + more), bounds)
    assert 0 <= found.low <= found.high
    assert found.low <= longer.low + 1e-6
    assert found.high <= longer.high + 1e-6
    assert found.low <= found.expected == remaining(work(records), bounds) <= found.high


def test_the_rest_of_a_load_waits_for_the_window_that_is_coming():
    """60,000 records to go, the quota spent, the window opens in 4:12: that, and the time to send them."""
    bounds = Bounds(quota=LIVE, speed=20_000.0, left=0.0, opens_in=252.0)
    found = forecast(work(60_000), bounds)
    assert found.expected == pytest.approx(252 + 3)
    assert found.high == pytest.approx(252 * 1.01 + 3)
    assert found.low <= found.high


def plan_of(stream: StreamFacts, number: int = 3000):
    surveyor = Surveyor(Packer(1000, 10**7), zlib.compress)
    surveyor.add([record(i) for i in range(number)])
    return make_plan("t", stream, surveyor.survey(), IDENTITY, read=number + 2, failed=2)


@pytest.mark.parametrize(
    ("stream", "fits"),
    [
        (facts(), None),
        (facts(Limit(5_000_000, 0)), True),
        (facts(Limit(5_000_000, 4_997_001)), False),
        (facts(Limit(5_000_000, 0), Limit(15, 15)), False),
        (facts(Limit(5_000_000, None)), None),
    ],
)
def test_whether_it_fits(stream, fits):
    """Records and bytes have to fit; what is not told is not claimed."""
    assert plan_of(stream).room.fits is fits


def test_the_plan_as_text():
    """A line for each question."""
    text = plan_text(plan_of(facts(Limit(5_000_000, 1_000_000), Limit(15, 1))))
    assert [line.split()[0] for line in text.splitlines()] == [
        "stream", "read", "keys", "requests", "windows", "fits", "time", "bottleneck",
    ]  # fmt: skip
    assert "3,002 records, of which 2 would fail before being sent" in text
    assert "yes, there is room for 4,000,000 records and 14 GB" in text
    assert "1 of 10 min 0 s, each of which takes 170,000 new records, 85,000 stored ones, 170 MB" in text


def test_the_plan_as_data():
    """The shape that scripts rely on."""
    data = plan_data(plan_of(facts(Limit(5_000_000, 1_000_000))))
    assert data["schema"] == "cdf-upsert/plan/1"
    assert data["records"] == {"read": 3002, "failed": 2, "toSend": 3000}
    assert data["keys"] == {"distinct": 3000, "exact": True}
    assert data["requests"] == 3
    assert data["room"] == {"records": 4_000_000, "bytes": None, "fits": True}
    assert set(data["whenNew"]) == {"secondsFrom", "secondsExpected", "secondsTo", "windows", "bottleneck"}


def test_when_all_are_stored_already_it_takes_longer():
    """Updates have half the quota: what fits into one window of creates needs two."""
    plan = make_plan(
        "t", facts(), Surveyor(Packer(1000, 10**7), zlib.compress).survey(), IDENTITY, read=0, failed=0
    )
    assert plan.stored is not None
    updates = forecast(work(100_000), Bounds(quota=Quota(600.0, 85_000, 85_000, None)))
    assert (forecast(work(100_000), IDENTITY).windows, updates.windows) == (1, 2)
