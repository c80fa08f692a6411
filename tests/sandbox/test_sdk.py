"""The official Python SDK against the sandbox: a script written for CDF, without a change."""

from collections.abc import Iterator

import pytest
from cognite.client import ClientConfig, CogniteClient, global_config
from cognite.client.credentials import OAuthClientCredentials, Token
from cognite.client.data_classes import filters
from cognite.client.data_classes.data_modeling import (
    ContainerApply,
    ContainerId,
    ContainerProperty,
    InstanceSort,
    SpaceApply,
    data_types,
)
from cognite.client.data_classes.data_modeling.containers import BTreeIndexApply, UniquenessConstraintApply
from cognite.client.data_classes.data_modeling.data_types import UnitReference
from cognite.client.data_classes.data_modeling.records import (
    RecordContainerId,
    RecordId,
    RecordSource,
    RecordSourceSelector,
    RecordTargetUnit,
    RecordTargetUnits,
    RecordViewId,
    RecordWrite,
    TimeRange,
)
from cognite.client.data_classes.data_modeling.streams import StreamTemplate, StreamWrite, StreamWriteSettings
from cognite.client.exceptions import CogniteAPIError, CogniteProjectAccessError

from cdf_upsert.sandbox.serve import Address, Options, Running, running

# The SDK warns that its records and streams are young; that is its maker's to mend.
pytestmark = pytest.mark.filterwarnings("ignore::cognite.client.utils._experimental.FeaturePreviewWarning")

PUMP = RecordContainerId("plant", "pump")
SPEED = ("plant", "pump", "speed")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    before = global_config.disable_pypi_version_check
    global_config.disable_pypi_version_check = True
    with running(Options(strict=True)) as found:
        yield found
    global_config.disable_pypi_version_check = before


def client(address: Address, client_id: str | None = None) -> CogniteClient:
    credentials = OAuthClientCredentials(
        token_url=address.token_url,
        client_id=client_id or address.client_id,
        client_secret=address.client_secret,
        scopes=[f"{address.base_url}/.default"],
    )
    return CogniteClient(ClientConfig("script", address.project, credentials, base_url=address.base_url))


@pytest.fixture(scope="module")
def cdf(sandbox: Running) -> CogniteClient:
    """A client whose project has a space, a container, a stream of 2,500 records and an immutable stream."""
    made = client(sandbox.address)
    made.data_modeling.spaces.apply(SpaceApply("plant", name="Plant"))
    made.data_modeling.containers.apply(
        ContainerApply(
            "plant",
            "pump",
            {
                "speed": ContainerProperty(data_types.Float64(unit=UnitReference("velocity:kilom-per-hr"))),
                "name": ContainerProperty(data_types.Text(), nullable=False),
                "seen": ContainerProperty(data_types.Timestamp()),
                "tags": ContainerProperty(data_types.Text(is_list=True)),
            },
            used_for="record",
        )
    )
    for name, template in (("pumps", "BasicLiveData"), ("log", "ImmutableTestStream")):
        made.data_modeling.streams.create(StreamWrite(name, StreamWriteSettings(StreamTemplate(template))))
    made.data_modeling.records.upsert([pump(number) for number in range(2500)], stream_id="pumps")
    return made


def pump(number: int, **changes: object) -> RecordWrite:
    values = {
        "speed": number / 2,
        "name": f"pump {number % 5}",
        "seen": "2024-01-01T00:00:00Z",
        "tags": ["a", "b"],
    }
    return RecordWrite("plant", f"p{number}", [RecordSource(PUMP, values | changes)])


def test_the_script_of_a_user(cdf):
    """Filter by range with sort and types, by text, count, sync, delete, and sync from there."""
    records = cdf.data_modeling.records
    found = records.filter(
        "pumps",
        filter=filters.And(filters.Range(SPEED, gte=100, lt=105), filters.HasData(containers=[PUMP])),
        sources=[RecordSourceSelector(PUMP, ["*"])],
        sort=[InstanceSort(SPEED, "descending")],
        limit=1000,
        include_typing=True,
    )
    assert [one.external_id for one in found] == [f"p{number}" for number in range(209, 199, -1)]
    assert found[0].dump()["properties"]["plant"]["pump"]["speed"] == 104.5
    assert found.typing is not None
    named = records.filter("pumps", filter=filters.Prefix(("plant", "pump", "name"), "pump 3"), limit=1000)
    assert len(named) == 500
    tagged = records.filter(
        "pumps", filter=filters.ContainsAny(("plant", "pump", "tags"), ["b", "z"]), limit=7
    )
    assert len(tagged) == 7
    since = records.filter("pumps", last_updated_time=TimeRange(gt=0), limit=3)
    assert len(since) == 3
    counted = records.aggregate(
        {
            "total": {"count": {}},
            "names": {
                "uniqueValues": {
                    "property": ["plant", "pump", "name"],
                    "aggregates": {"fastest": {"max": {"property": list(SPEED)}}},
                }
            },
        },
        stream_id="pumps",
    ).dump()["aggregates"]
    assert counted["total"]["count"] == 2500
    assert len(counted["names"]["uniqueValueBuckets"]) == 5
    chunks = list(records.sync("pumps", initialize_cursor="1d-ago"))
    assert [len(chunk) for chunk in chunks] == [1000, 1000, 500]
    records.delete([RecordId("plant", "p1"), RecordId("plant", "unknown")], stream_id="pumps")
    records.upsert(pump(2, speed=-1.0), stream_id="pumps")
    later = [one for chunk in records.sync("pumps", cursor=chunks[-1].cursor) for one in chunk]
    assert [(one.external_id, one.status) for one in later] == [("p1", "deleted"), ("p2", "updated")]
    records.upsert(pump(1), stream_id="pumps")


def refused(call, *args, **kwargs) -> CogniteAPIError:
    with pytest.raises(CogniteAPIError) as caught:
        call(*args, **kwargs)
    assert caught.value.x_request_id
    return caught.value


def test_the_mistakes_of_a_user(cdf):
    """Wrong type, unknown container, a key twice, an immutable stream: each as the SDK reports it."""
    upsert = cdf.data_modeling.records.upsert
    wrong = refused(upsert, [pump(1), pump(2, speed="fast")], stream_id="pumps")
    assert (wrong.code, "items[1].sources[0].properties.speed" in wrong.message) == (400, True)
    other = RecordWrite("plant", "x", [RecordSource(RecordContainerId("plant", "nope"), {"a": 1})])
    unknown = refused(upsert, other, stream_id="pumps")
    assert (unknown.code, unknown.missing) == (400, [{"space": "plant", "externalId": "nope"}])
    assert refused(upsert, [pump(1), pump(1)], stream_id="pumps").code == 422
    assert refused(upsert, pump(1), stream_id="log").code == 422
    assert refused(cdf.data_modeling.records.ingest, pump(1), stream_id="pumps").code == 409
    cdf.data_modeling.records.ingest([pump(1), pump(1)], stream_id="log")
    found = cdf.data_modeling.streams.retrieve("log", include_statistics=True)
    assert found.settings.limits.max_records_total.consumed == 1


def test_units_of_a_user(cdf):
    """Speeds in metres per second, by the property's name and by the unit system, in change feed and aggregates."""
    records = cdf.data_modeling.records
    ten = filters.Equals(SPEED, 10.0)
    for units in (
        [RecordTargetUnit(SPEED, UnitReference("velocity:m-per-sec"))],
        RecordTargetUnits(None, "SI"),
    ):
        feed = records.sync(
            "pumps",
            initialize_cursor="1d-ago",
            filter=ten,
            sources=[RecordSourceSelector(PUMP, ["speed"])],
            target_units=units,
        )
        found = [one for chunk in feed for one in chunk if one.status != "deleted"]
        assert [(one.external_id, one.properties) for one in found] == [
            ("p72", {"plant": {"pump": {"speed": 10.0}}})
        ]
        most = {"most": {"max": {"property": list(SPEED)}}}
        told = records.aggregate(most, stream_id="pumps", filter=ten, target_units=units)
        assert told.dump()["aggregates"] == {"most": {"max": 10.0}}
    told = refused(
        records.aggregate, most, stream_id="pumps", target_units=RecordTargetUnits(None, "Nautical")
    )
    assert (told.code, "Nautical" in told.message) == (400, True)


def test_a_view_is_no_source_of_records(cdf):
    """The published API takes containers; a view is refused with the place, written and read."""
    view = RecordViewId("plant", "pump", "1")
    wrong = RecordWrite("plant", "x", [RecordSource(view, {"speed": 1.0})])
    told = refused(cdf.data_modeling.records.upsert, wrong, stream_id="pumps")
    assert (told.code, "items[0].sources[0].source" in told.message) == (400, True)
    assert "container" in told.message
    selected = [RecordSourceSelector(view, ["*"])]
    told = refused(cdf.data_modeling.records.filter, "pumps", sources=selected)
    assert (told.code, "sources[0].source" in told.message) == (400, True)


def test_streams_of_a_user(cdf):
    """Create, list, retrieve with statistics, delete; what is not there is None."""
    streams = cdf.data_modeling.streams
    made = streams.create(StreamWrite("short", StreamWriteSettings(StreamTemplate("BasicLiveData"))))
    assert (made.type, made.created_from_template) == ("Mutable", "BasicLiveData")
    assert "short" in [one.external_id for one in streams.list()]
    assert (
        streams.retrieve("pumps", include_statistics=True).settings.limits.max_records_total.consumed == 2500
    )
    streams.delete("short")
    assert streams.retrieve("short") is None
    assert refused(streams.create, StreamWrite("pumps", made.as_write().settings)).code == 409


def test_models_of_a_user(cdf):
    """Spaces and containers: apply, list, retrieve, delete, and the parts of containers for nodes."""
    models = cdf.data_modeling
    models.spaces.apply([SpaceApply("one"), SpaceApply("two", description="d")])
    assert {"one", "two"} <= {one.space for one in models.spaces.list(limit=None)}
    assert models.spaces.retrieve("two").description == "d"
    assert models.spaces.retrieve("nope") is None
    made = models.containers.apply(
        ContainerApply(
            "one",
            "thing",
            {
                "name": ContainerProperty(data_types.Text()),
                "to": ContainerProperty(data_types.DirectRelation()),
            },
            constraints={"c": UniquenessConstraintApply(["name"])},
            indexes={"i": BTreeIndexApply(["name"])},
        )
    )
    assert made.as_apply().dump() == models.containers.retrieve(("one", "thing")).as_apply().dump()
    constraint, index = (ContainerId("one", "thing"), "c"), (ContainerId("one", "thing"), "i")
    assert models.containers.delete_constraints([constraint]) == [constraint]
    assert models.containers.delete_indexes([index]) == [index]
    assert [one.external_id for one in models.containers.list(space="one", limit=None)] == ["thing"]
    assert models.containers.delete(("one", "thing")) == [ContainerId("one", "thing")]
    assert sorted(models.spaces.delete(["one", "two"])) == ["one", "two"]


def test_tokens_of_a_user(sandbox, cdf):
    """The SDK's sign-in and its inspection of the token; a reader may not write, a made-up token may nothing."""
    assert cdf.iam.token.inspect().projects[0].url_name == "sandbox"
    reader = client(sandbox.address, "sandbox-reader")
    assert len(reader.data_modeling.records.filter("pumps", limit=1)) == 1
    assert refused(reader.data_modeling.records.upsert, pump(1), stream_id="pumps").code == 403
    address = sandbox.address
    nobody = CogniteClient(
        ClientConfig("script", address.project, Token("made up"), base_url=address.base_url)
    )
    with pytest.raises(CogniteProjectAccessError):
        nobody.data_modeling.streams.list()
