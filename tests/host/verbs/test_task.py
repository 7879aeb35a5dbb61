"""Task.*: how verbs ended that return the id of a task."""

import uuid

import pytest

from protocol.errors import UnknownTask
from tests.host.verbs.a_host import SD, AHost, lease

METHODS = ("Task.getStatus", "Task.getInfo", "Task.clear")


async def test_a_task_tells_how_it_ended_until_it_is_cleared(host: AHost) -> None:
    await host.domain()
    task_id = await host.call("Lease.create", lease=lease("one"))
    status = await host.call("Task.getStatus", taskID=task_id.upper())
    assert status["taskID"] == task_id
    assert (status["taskState"], status["taskResult"], status["code"]) == ("finished", "success", 0)
    assert status["result"] == await host.call("Lease.info", lease=lease("one"))
    info = {"id": task_id, "verb": "Lease.create"}
    assert await host.call("Task.getInfo", taskID=task_id) == info
    assert await host.call("Host.getAllTasksStatuses") == {task_id: status}
    assert await host.call("Task.clear", taskID=task_id) is True
    for method in METHODS:
        with pytest.raises(UnknownTask):
            await host.call(method, taskID=task_id)


@pytest.mark.parametrize("method", METHODS)
async def test_an_unknown_task_is_told(host: AHost, method: str) -> None:
    with pytest.raises(UnknownTask) as caught:
        await host.call(method, taskID=str(uuid.uuid4()))
    assert caught.value.code == 401


async def test_a_failure_that_nobody_expected_ends_the_task(
    host: AHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*arguments: object, **options: object) -> None:
        raise ExceptionGroup("", [ZeroDivisionError("a fault")])

    await host.domain()
    monkeypatch.setattr("host.verbs.lease.verbs.create", broken)
    status = await host.task("Lease.create", lease={"sd_id": SD, "lease_id": "one"})
    assert (status["code"], status["message"]) == (100, "a fault")
