"""The manager's methods for lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from voices_peewee.database.delegated import Delegated
from voices_peewee.database.store import HasStore

if TYPE_CHECKING:
    from voices_peewee.search.pages import Page


class SearchMethods(HasStore):
    """The manager's methods for lists."""

    def list_rows(
        self,
        noun: str,
        words: str | Sequence[str] = (),
        *,
        search: str | None = None,
        sort: str | Sequence[str] | None = None,
        limit: int | None = 50,
        offset: int = 0,
        columns: Sequence[str] | None = None,
        whole: bool = False,
        **filters: Any,
    ) -> Page:
        """Return a page of ``speakers``, ``files``, ``history`` or ``performance``.

        Args:
            noun: What to list.
            words: Query words; docs/search.md says what they can be.
            search: A text to look for in names, paths and descriptions.
            sort: Columns to sort by; ``-`` before one turns it round.
            limit: How many rows at most; None means all.
            offset: How many rows to pass over first.
            columns: The columns to show; None means the usual ones.
            whole: Whether the usual ones are followed by the others of the table.
            filters: speaker, tag, model, operation, file_format, since, until, success,
                failed, unfinished; several narrow the list down.

        Raises:
            QueryError: A list, field or column is unknown, or a value cannot be read.
        """
        from voices_peewee.search import pages as listing

        if whole and columns is None:
            columns = listing.find_listing(noun).whole
        return listing.select(
            self.store,
            noun,
            words,
            filters=listing.filters_to_words(noun, **filters),
            search=search,
            sort=sort,
            limit=limit,
            offset=offset,
            columns=columns,
        )

    search = Delegated("search.pages", "records")
