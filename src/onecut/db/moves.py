"""How a resource goes from one state to the next: by compare-and-swap, along the tables in `states`."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final, TypeAlias

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.db.volumes import Volume
from onecut.errors import NotFound, WrongState
from onecut.states import GROUP_MOVES, SNAPSHOT_MOVES, VOLUME_MOVES

Model: TypeAlias = type[Volume] | type[Snapshot] | type[SnapshotGroup]

LIFE_CYCLES: Final[Mapping[Model, tuple[str, Mapping[str, frozenset[str]]]]] = {
    Volume: ("volume", VOLUME_MOVES),
    Snapshot: ("snapshot", SNAPSHOT_MOVES),
    SnapshotGroup: ("snapshot group", GROUP_MOVES),
}
"""What an error calls the resource, and its table of moves."""


def move(
    session: Session,
    model: Model,
    ids: Iterable[str],
    *,
    to: str,
    now: datetime,
    only_from: Collection[str] | None = None,
    code: str | None = None,
) -> None:
    """
    Move resources to the state *to*, each from a state that leads there.

    The rows are taken in the order of their ids, so that two movers never wait for each other in a circle. An
    error ends the transaction, so either all are moved or none is.

    Args:
        session: An open writing transaction; resources it has loaded show the new state.
        model: The resources' table.
        ids: The resources; naming one twice is the same as naming it once.
        to: The state they go to.
        now: Becomes their `updated_at`.
        only_from: Narrows the states they may come from; by default every state that leads to *to*.
        code: The EVS error code for a resource in another state.

    Raises:
        WrongState: A resource is in none of those states.
        NotFound: A resource is not there.
    """
    resource, moves = LIFE_CYCLES[model]
    allowed = frozenset(state for state, following in moves.items() if to in following)
    if only_from is not None:
        allowed &= frozenset(only_from)
    for row_id in sorted(set(ids)):
        swap = update(model).where(model.id == row_id, model.status.in_(allowed)).returning(model.id)
        if session.execute(swap.values(status=to, updated_at=now)).one_or_none() is None:
            state = session.scalar(select(model.status).where(model.id == row_id))
            if state is None:
                raise NotFound(resource, row_id)
            raise WrongState(resource, row_id, state, allowed, code=code)
