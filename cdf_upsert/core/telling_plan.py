"""A plan as sentences and as data."""

from typing import Any

from cdf_upsert.core.planning import SLOW_REQUEST, Forecast, Plan
from cdf_upsert.core.wording import count, duration, one_line, shown, size

SCHEMA = "cdf-upsert/plan/1"


def plan_text(plan: Plan) -> str:
    """Return the plan in lines for people."""
    work, compressed = plan.survey.work, size(plan.survey.compressed_bytes)
    lines = [
        ("stream", f"{plan.stream}, template {plan.template or 'not told'}"),
        ("read", _read(plan)),
        (
            "keys",
            f"{plan.survey.distinct_keys:,} different{'' if plan.survey.keys_are_exact else ', estimated'}",
        ),
        (
            "requests",
            f"{work.requests:,}, {size(work.nbytes)} in all, about {compressed} compressed",
        ),
        ("windows", _windows(plan)),
        ("fits", _fits(plan)),
        ("time", _time(plan)),
        ("bottleneck", plan.new.bottleneck.value if plan.new.bottleneck is not None else "none"),
    ]
    return "\n".join(f"{name:<11} {one_line(text)}" for name, text in lines)


def plan_data(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON holds it; the shape is stable."""
    work, room, quota = plan.survey.work, plan.room, plan.quota
    return {
        "schema": SCHEMA,
        "stream": plan.stream,
        "template": shown(plan.template),
        "records": {"read": plan.read, "failed": plan.failed, "toSend": work.records},
        "keys": {"distinct": plan.survey.distinct_keys, "exact": plan.survey.keys_are_exact},
        "requests": work.requests,
        "bytes": work.nbytes,
        "compressedBytes": plan.survey.compressed_bytes,
        "quota": None
        if quota is None
        else {
            "windowSeconds": quota.window,
            "created": quota.created,
            "updated": quota.updated,
            "bytes": quota.nbytes,
        },
        "room": {"records": room.free_records, "bytes": room.free_bytes, "fits": room.fits},
        "whenNew": _forecast_data(plan.new),
        "whenStored": None if plan.stored is None else _forecast_data(plan.stored),
    }


def _forecast_data(forecast: Forecast) -> dict[str, Any]:
    return {
        "secondsFrom": round(forecast.low, 3),
        "secondsExpected": round(forecast.expected, 3),
        "secondsTo": round(forecast.high, 3),
        "windows": forecast.windows,
        "bottleneck": None if forecast.bottleneck is None else forecast.bottleneck.value,
    }


def _read(plan: Plan) -> str:
    text = count(plan.read, "record")
    return f"{text}, of which {plan.failed:,} would fail before being sent" if plan.failed else text


def _windows(plan: Plan) -> str:
    quota = plan.quota
    if quota is None or plan.new.windows is None:
        return "not known: the quota of this template is not published; --quota names it"
    if not plan.new.windows:
        return "none: there is nothing to load"
    bounds = []
    if quota.created is not None:
        bounds.append(count(quota.created, "new record"))
    if quota.updated is not None and quota.updated != quota.created:
        bounds.append(count(quota.updated, "stored one"))
    if quota.nbytes is not None:
        bounds.append(size(quota.nbytes))
    return f"{plan.new.windows:,} of {duration(quota.window)}, each of which takes {', '.join(bounds)}"


def _fits(plan: Plan) -> str:
    room = plan.room
    free = []
    if room.free_records is not None:
        free.append(count(room.free_records, "record"))
    if room.free_bytes is not None:
        free.append(size(room.free_bytes))
    match room.fits:
        case None:
            return "not known: the service does not tell how much room is left"
        case True:
            return f"yes, there is room for {' and '.join(free)}"
        case False:
            return (
                f"no, there is room for {' and '.join(free)}, unless many of the records are stored already"
            )


def _time(plan: Plan) -> str:
    text = _range(plan.new)
    if plan.stored is not None and plan.stored != plan.new:
        text = f"{text} when the records are new, {_range(plan.stored)} when all of them are stored already"
    return f"{text} (a request is taken to last at most {duration(SLOW_REQUEST)})"


def _range(forecast: Forecast) -> str:
    low, expected, high = (duration(each) for each in (forecast.low, forecast.expected, forecast.high))
    return expected if low == high else f"about {expected}, from {low} to {high}"
