"""Memory that clients make us keep: bounded for all of them together."""

from collections.abc import Callable


class Budget:
    """limit: bytes of all accounts. Beyond it the holder of the largest one is dropped."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[Account] = set()
        self.total = 0

    def account(self, drop: Callable[[str], None]) -> "Account":
        account = Account(self, drop)
        self._open.add(account)
        return account

    def change(self, account: "Account", size: int) -> None:
        if account not in self._open:
            return
        account.held += size
        self.total += size
        while self.total > self._limit:
            largest = max(self._open, key=lambda one: one.held)
            self.close(largest)  # what it held goes with it, soon
            largest.drop("it holds most of a memory that is full")

    def close(self, account: "Account") -> None:
        if account in self._open:
            self._open.remove(account)
            self.total -= account.held
            account.held = 0


class Account:
    """What one client holds. drop: ends its connection soon, with a reason; returns at once."""

    def __init__(self, budget: Budget, drop: Callable[[str], None]) -> None:
        self._budget = budget
        self.drop = drop
        self.held = 0

    def change(self, size: int) -> None:
        """size: bytes; negative: they are given back."""
        self._budget.change(self, size)

    def close(self) -> None:
        self._budget.close(self)
