"""Tasks: only the last ones are kept."""

from host.tasks import Tasks


async def test_the_oldest_tasks_are_forgotten() -> None:
    async def work() -> int:
        return 1

    tasks = Tasks(limit=3)
    ids = [await tasks.finished("Lease.create", work) for _ in range(5)]
    assert [task.id for task in tasks.all()] == ids[2:]
    assert {task.result for task in tasks.all()} == {1}
