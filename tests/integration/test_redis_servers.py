"""``redis://`` on servers that are set up in other ways than they should be, and what is said of it."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command

from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import Partition, Queue
from outbox_inbox.transports import transport, transport_problems
from tests.shop.contracts import Sold
from tests.support.brokers import RedisServer, free_port, self_signed
from tests.support.movers import come_due, deliver, put, receive, relay, states, steps
from tests.support.outgoing import outgoing

pytestmark = [pytest.mark.redis, pytest.mark.usefixtures("committed")]


@pytest.fixture(scope="module")
def running():
    """A server of this module's own, as it should be."""
    with RedisServer() as found:
        yield found


@pytest.fixture
def client(running):
    """A client of that server, which is empty; what it configures is undone."""
    with running.client() as found:
        found.flushall()
        before = found.config_get("*")
        yield found
        now = found.config_get("*")
        for name, value in before.items():
            if now[name] != value:
                found.config_set(name, value)


@pytest.fixture
def configure(settings):
    """Let the contexts talk through a server, and return the transport."""

    def configured(location, *, options=None, **changed):
        entry = {"LOCATION": location, "OPTIONS": options or {}}
        settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": entry}, **changed}
        return transport("default")

    return configured


@pytest.fixture
def bus(configure, running):
    """The transport on that server."""
    return configure(running.url)


@pytest.fixture
def bus_of(configure, running, client):
    """Return a function that makes a user with some rights, and returns the user's transport."""

    def made(rights):
        client.execute_command(f"ACL SETUSER app reset on >geheim {rights}")
        return configure(running.url.replace("redis://", "redis://app:geheim@"))

    return made


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory):
    """A server with TLS, as (its URL without options, its authority)."""
    port = free_port()
    certificate, key = self_signed(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")
    files = {"tls_cert_file": str(certificate), "tls_key_file": str(key)}
    with RedisServer(tls_port=str(port), tls_auth_clients="no", **files):
        yield f"rediss://127.0.0.1:{port}/0", certificate


def outage():
    """Return what the partition of the shop's outbox says."""
    return Partition.objects.get(context="shop", queue=Queue.OUTBOX).error


def test_tls_carries_messages_of_any_size(configure, encrypted):
    """Also those that fill more than one record of TLS, and while a thread waits for them."""
    url, authority = encrypted
    bus = configure(f"{url}?ssl_ca_certs={authority}")
    depot = get_context("depot")
    assert not bus.wait_for_messages([depot], 0.05)
    bus.publish(get_context("shop"), [outgoing(n, data="x" * 50_000 * n) for n in range(1, 6)])
    assert bus.wait_for_messages([depot], 60)
    with bus.attached(depot):
        found = bus.receive(depot, 10)
        bus.acknowledge(depot, found)
    assert [len(message.data) for message in found] == [50_000 * n for n in range(1, 6)]
    assert not bus.has_messages(depot)


def test_a_certificate_that_nobody_vouches_for_is_not_believed(configure, encrypted):
    """It is an outage, until an operator names the authority."""
    bus = configure(encrypted[0])
    with pytest.raises(TransportUnavailable, match="certificate verify failed"):
        bus.publish(get_context("shop"), [outgoing(1)])


@pytest.mark.parametrize(
    ("spoil", "mend", "code"),
    [
        (("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE"), "READONLY"),
        (("CONFIG SET", "maxmemory", 1), ("CONFIG SET", "maxmemory", 0), "OOM"),
        (
            ("CONFIG SET", "min-replicas-to-write", 1),
            ("CONFIG SET", "min-replicas-to-write", 0),
            "NOREPLICAS",
        ),
    ],
    ids=["a replica", "no memory", "no replicas"],
)
def test_a_server_that_takes_nothing_is_an_outage(bus, client, spoil, mend, code):
    """No message fails by it, and all are sent when it is over."""
    client.execute_command(*spoil)
    put(*steps(Sold, 3))
    outcome = relay()
    assert (outcome.failed, outcome.dead, states()) == (0, 0, ["pending"] * 3)
    assert code in outage()
    client.execute_command(*mend)
    come_due()
    assert relay().done == 3


def test_a_user_who_may_not_write_is_an_outage(bus_of, client):
    """An operator has to grant it; the password is not in the error."""
    bus_of("~* +@all -xadd")
    deliver(*steps(Sold, 1))
    assert "NOPERM" in outage()
    assert "geheim" not in outage()
    client.acl_deluser("app")
    come_due()
    relay()
    assert "WRONGPASS" in outage()


def test_a_message_beyond_what_the_server_takes_is_refused(bus, client):
    """The server would end the connection, and the queue would stand still for ever."""
    client.config_set("proto-max-bulk-len", "2mb")
    small, large = outgoing(1, data="x" * 2_000_000), outgoing(2, data="x" * 2_100_000)
    published = bus.publish(get_context("shop"), [small, large, outgoing(3), outgoing(4, key="b")])
    assert (published.sent, list(published.refused)) == ([1, 4], [2])


def test_a_user_who_may_not_ask_for_the_limit_sends_what_is_usual(bus_of):
    """Many hosted servers show their configuration to no client."""
    bus = bus_of("~* +@all -config")
    published = bus.publish(get_context("shop"), [outgoing(1, data="x" * 2_000_000)])
    assert published.sent == [1]
    assert said(bus) == []


def granted():
    """Return what the documentation says that a user needs."""
    text = (Path(__file__).parents[2] / "docs/transports.md").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("| for a user of its own |")]
    return " ".join(re.findall("`([^`]+)`", line)).replace("\\|", "|")


def test_a_user_who_may_do_what_the_documentation_says_can_do_everything(bus_of, client):
    """Publish, look, receive, trim, wait and check."""
    client.acl_log_reset()
    bus = bus_of(f"-@all {granted()}")
    put(*steps(Sold, 3))
    assert relay().done == 3
    assert bus.wait_for_messages([get_context("depot")], 60)
    assert receive().done == 3
    assert client.xinfo_groups("events:shop")[0]["pending"] == 0
    assert not bus.has_messages(get_context("depot"))
    assert said(bus) == []
    denied = {entry["object"] for entry in client.acl_log()}
    assert not {each for each in denied if not each.startswith("client")}  # how redis-py says hello


def test_a_batch_is_written_as_a_whole_or_not_at_all(bus_of, client):
    """A server that refuses one entry takes the next: a key's messages would change places."""
    bus = bus_of("~events:shop +@all")
    with pytest.raises(TransportUnavailable, match="NOPERM"):
        bus.publish(get_context("shop"), [outgoing(1), outgoing(2, partition=1), outgoing(3)])
    assert client.xlen("events:shop") == 0


def test_a_user_who_may_not_trim_receives_all_the_same(bus_of):
    """The stream grows, and `problems` reports it."""
    bus = bus_of("~* +@all -xtrim")
    deliver(*steps(Sold, 3))
    assert receive().done == 3
    [problem] = said(bus)
    assert "does not allow this user to trim streams" in problem


def said(bus):
    """Return what the transport says of its server."""
    return list(bus.problems())


def test_a_server_that_is_as_it_should_be_has_no_problem(bus, client):
    """Nothing is said of it."""
    assert said(bus) == []


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("appendonly", "no", "has no append-only file"),
        ("maxmemory-policy", "allkeys-lru", "deletes whole streams"),
    ],
)
def test_a_server_that_may_lose_messages_is_told_of(bus, client, name, value, part):
    """With a way out."""
    client.config_set(name, value)
    [problem] = said(bus)
    assert part in problem
    assert f"127.0.0.1:{bus.settings.location.rpartition(':')[2]}" in problem


def test_what_a_crash_would_lose_depends_on_snapshots(bus, client):
    """Without any, it is everything."""
    client.config_set("appendonly", "no")
    assert "a crash loses all its messages" in said(bus)[0]
    client.config_set("save", "3600 1")
    assert "a crash loses all messages since its last snapshot" in said(bus)[0]


def test_a_replica_is_told_of(bus, client):
    """It takes no messages."""
    client.replicaof("127.0.0.1", 1)
    try:
        assert any("is a replica" in each for each in said(bus))
    finally:
        client.replicaof("no", "one")


def test_a_cluster_is_told_of(configure):
    """Its other nodes are not followed."""
    with RedisServer(cluster_enabled="yes") as server:
        assert any("is part of a cluster" in each for each in said(configure(server.url)))


@pytest.mark.parametrize(
    ("version", "problem"),
    [("6.2.7", True), ("7.0.0", False), ("7.2.4", False), ("10.1.0", False), ("", True)],
)
def test_a_version_that_does_not_count_is_told_of(version, problem):
    """Before 7.0 the server does not know how much is unread."""
    from outbox_inbox.transports.redis import health

    assert bool(health._version_problem({"redis_version": version})) is problem


def add_old_entry(client):
    """Add an entry that is three days old."""
    long_ago = int((client.time()[0] - timedelta(days=3).total_seconds()) * 1000)
    client.xadd("events:shop", {"data": "x"}, id=f"{long_ago}-1")


def test_a_subscriber_that_fell_behind_is_told_of(configure, running, client):
    """It blocks trimming; the sentence says how to delete its group."""
    bus = configure(running.url, options={"MAX_AGE": timedelta(days=2)})
    receive()
    add_old_entry(client)
    [problem] = said(bus)
    assert "'depot' has entries of events:shop unread for more than 2 days" in problem
    assert problem.endswith("XGROUP DESTROY events:shop depot")
    receive()
    assert said(bus) == []


def test_what_is_handed_out_and_never_acknowledged_counts_as_unread(configure, running, client):
    """Its reader crashed and never came back."""
    bus = configure(running.url, options={"MAX_AGE": timedelta(days=2)})
    depot = get_context("depot")
    add_old_entry(client)
    with bus.attached(depot):
        assert bus.receive(depot, 10)
    assert len(said(bus)) == 1


def test_the_checks_ask_the_server_when_they_are_told_to(bus, client, capsys):
    """``check --deploy`` does (W007); the ordinary checks connect to nothing."""
    client.config_set("appendonly", "no")
    call_command("check", tags=["outbox_inbox"])
    assert "W007" not in capsys.readouterr().err
    call_command("check", deploy=True, tags=["outbox_inbox"])
    printed = capsys.readouterr().err
    assert "outbox_inbox.W007" in printed
    assert "has no append-only file" in printed


def test_a_server_that_cannot_be_asked_is_a_problem(configure):
    """And no crash of the checks."""
    configure("redis://127.0.0.1:1/0")
    [(alias, problem)] = transport_problems()
    assert alias == "default"
    assert "cannot be reached" in problem


def test_messages_outlive_a_server_that_is_killed(bus, running, client):
    """With an append-only file that is written before each answer."""
    deliver(*steps(Sold, 3))
    running.restart()
    deliver(*steps(Sold, [4]))
    come_due()
    relay()
    receive()
    come_due()
    receive()
    assert states() == ["sent"] * 4
    assert not bus.has_messages(get_context("depot"))
